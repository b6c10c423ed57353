from django.urls import path

from extensions.views import connection, extensions, reentry

app_name = "extensions"
_account = "accounts/<str:code>/"
_connection = _account + "connections/<uuid:connection_id>/"

urlpatterns = [
    path(_account + "connections/", connection.connection_list, name="connection_list"),
    path(_account + "connections/new/", connection.connection_create, name="connection_create"),
    path(_account + "reentry/", reentry.reentry_list, name="reentry_list"),
    path(_connection, connection.connection_edit, name="connection_edit"),
    path(_connection + "delete/", connection.connection_delete, name="connection_delete"),
    path(
        _account + "environments/<uuid:environment_id>/extensions/",
        extensions.environment_extensions,
        name="environment_extensions",
    ),
    path(
        _account + "environments/<uuid:environment_id>/extensions/let-go/",
        extensions.environment_let_go,
        name="environment_let_go",
    ),
]
