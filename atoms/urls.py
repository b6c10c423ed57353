from django.urls import path

from atoms.views import atom, environment, install, revoke

app_name = "atoms"
_account = "accounts/<str:code>/"
_atom = _account + "atoms/<uuid:atom_id>/"
_environment = _account + "environments/<uuid:environment_id>/"

urlpatterns = [
    path(_account + "atoms/", atom.atom_management, name="atom_management"),
    path(_account + "atoms/tree/", atom.atom_tree_fragment, name="atom_tree"),
    path(_account + "atoms/new/", install.atom_create, name="atom_create"),
    path(_atom, atom.atom_detail, name="atom_detail"),
    path(_atom + "rename/", atom.atom_rename, name="atom_rename"),
    path(_atom + "attach/", atom.atom_attach, name="atom_attach"),
    path(_atom + "detach/", atom.atom_detach, name="atom_detach"),
    path(_atom + "delete/", atom.atom_delete, name="atom_delete"),
    path(_atom + "installation/", install.atom_install, name="atom_install"),
    path(_atom + "installation/withdraw/", install.token_withdraw, name="token_withdraw"),
    path(_atom + "nodes/", install.atom_nodes, name="atom_nodes"),
    path(_atom + "nodes/<uuid:node_id>/revoke/", revoke.node_revoke, name="node_revoke"),
    path(_atom + "revoke/", revoke.atom_revoke, name="atom_revoke"),
    path(_atom + "revocations/<uuid:operation_id>/", revoke.revocation_receipt, name="revocation"),
    path(_account + "environments/new/", environment.environment_create, name="environment_create"),
    path(_environment, environment.environment_detail, name="environment_detail"),
    path(_environment + "rename/", environment.environment_rename, name="environment_rename"),
    path(_environment + "roles/", environment.environment_roles, name="environment_roles"),
    path(_environment + "delete/", environment.environment_delete, name="environment_delete"),
    path("runtime/<str:name>", install.runtime_wheel, name="runtime_wheel"),
]
