"""Every address × everybody: stranger, anonymous, read-only member, administrator. A new route without a row fails."""

from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from atoms import actions as atoms
from atoms.models import Node
from atoms.revocation import KIND, revoke_node
from operations.models import Operation
from tests.conftest import Stage
from vaults.models import LoginAlarm, ShredCertificate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]

READ, EDIT = "read", "edit"  # what a read-only member may see; what needs a privilege Bob has not
ROUTES = {
    "accounts:audit_log": EDIT,
    "operations:operation_list": READ,
    "operations:operation_detail": READ,
    "operations:operation_receipt": READ,
    "operations:operation_cancel": EDIT,
    "operations:operation_resume": EDIT,
    "atoms:atom_management": READ,
    "atoms:atom_tree": READ,
    "atoms:atom_nodes": READ,
    "atoms:atom_create": EDIT,
    "atoms:atom_detail": READ,
    "atoms:atom_rename": EDIT,
    "atoms:atom_attach": EDIT,
    "atoms:atom_detach": EDIT,
    "atoms:atom_delete": EDIT,
    "atoms:atom_install": EDIT,
    "atoms:token_withdraw": EDIT,
    "atoms:node_revoke": EDIT,
    "atoms:atom_revoke": EDIT,
    "atoms:revocation": READ,
    "atoms:environment_create": EDIT,
    "atoms:environment_detail": READ,
    "atoms:environment_rename": EDIT,
    "atoms:environment_roles": EDIT,
    "atoms:environment_delete": EDIT,
    "vaults:kms_account": READ,
    "vaults:kms_disable": EDIT,
    "vaults:kms_enable": EDIT,
    "vaults:kms_shred": EDIT,
    "vaults:kms_shred_approve": EDIT,
    "vaults:kms_shred_withdraw": EDIT,
    "vaults:shred_certificate": EDIT,
    "vaults:login_alarm_destroy": EDIT,
    "vaults:login_alarm_close": EDIT,
    "vaults:rekey_all": EDIT,
    "vaults:rekey_atom": EDIT,
    "vaults:rotate_all": EDIT,
    "vaults:rotation_schedule": EDIT,
    "vaults:rotate_environment": EDIT,
    "vaults:rotate_atom": EDIT,
    "vaults:kms_panel": READ,
    "vaults:kms_settings": READ,
    "vaults:kms_check": EDIT,
    "vaults:kms_policy": READ,
    "vaults:kms_policy_file": READ,
    "extensions:connection_list": EDIT,
    "extensions:connection_create": EDIT,
    "extensions:connection_edit": EDIT,
    "extensions:connection_delete": EDIT,
    "extensions:environment_extensions": READ,
    "extensions:environment_let_go": EDIT,
    "extensions:reentry_list": READ,
}
# Everybody's own pages, machine doors with their own authentication, and what is open on purpose.
ELSEWHERE = {"accounts:account_list", "accounts:theme", "atoms:runtime_wheel"}
POST_ONLY = {
    "operations:operation_cancel",
    "operations:operation_resume",
    "vaults:kms_shred_withdraw",
    "atoms:atom_rename",
    "atoms:environment_rename",
    "atoms:environment_roles",
    "atoms:token_withdraw",
    "vaults:kms_check",
    "vaults:rotation_schedule",
}


def named_routes() -> set[str]:
    found: set[str] = set()

    def walk(patterns: list[Any], prefix: str) -> None:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                space = f"{pattern.namespace}:" if pattern.namespace else ""
                if pattern.namespace in (None, "accounts", "operations", "atoms", "vaults", "extensions"):
                    walk(pattern.url_patterns, prefix + space)
            elif isinstance(pattern, URLPattern) and pattern.name and ":" in prefix:
                found.add(prefix + pattern.name)

    walk(get_resolver().url_patterns, "")
    return found


def things_with_pages(stage: Stage) -> None:
    """What an address needs besides the stage: a node, a revoked one, an alarm, a certificate."""
    Node.objects.create(atom=stage.atom, state=Node.State.ENROLLED, host_name="host1")
    gone = Node.objects.create(atom=stage.atom, host_name="host0")
    revoke_node(gone, actor=stage.alice)
    LoginAlarm(account=stage.account, mount="environments", role=str(stage.production.pk), accessor="made up").save()
    done = Operation.objects.filter(kind=KIND)
    done.update(state=Operation.State.DONE)
    document = {"account": {}, "audit": {"seq": 1, "fingerprint": ""}, "keys": [], "containers": []}
    ShredCertificate(account=stage.account, operation=done[0], document=document, signature=b"").save()


def address(stage: Stage, route: str) -> str:
    node = Node.objects.filter(atom=stage.atom).exclude(state=Node.State.REVOKED).first()
    revoked = Operation.objects.filter(kind=KIND).first()
    available = {
        "code": stage.account.code,
        "atom_id": stage.atom.pk,
        "environment_id": stage.production.pk,
        "connection_id": stage.connection.pk,
        "node_id": node.pk if node else None,
        "name": "policy.hcl",
        "operation_id": revoked.pk if revoked else None,
        "certificate_id": ShredCertificate.objects.values_list("pk", flat=True).first(),
        "alarm_id": LoginAlarm.objects.values_list("pk", flat=True).first(),
    }
    for size in (1, 2, 3):
        from itertools import combinations

        for names in combinations(available, size):
            try:
                return reverse(route, kwargs={name: available[name] for name in names})
            except Exception:  # noqa: BLE001, S112 (the next combination)
                continue
    raise AssertionError(f"no arguments fit {route}")


def status(client: Client, route: str, url: str) -> int:
    if route not in POST_ONLY:
        return client.get(url).status_code
    code = client.post(url).status_code
    # 409: a choice of roles that does not say what it saw is stale, whoever makes it.
    return 200 if code in (302, 409) and client.session.get("_auth_user_id") else code


def test_every_route_has_a_row() -> None:
    assert named_routes() == set(ROUTES) | ELSEWHERE


def test_who_may_open_what(stage: Stage) -> None:
    things_with_pages(stage)
    found = {}
    for route, kind in ROUTES.items():
        url = address(stage, route)
        found[route] = (
            status(Client(), route, url),
            status(stage.cast.client("charlie"), route, url),
            status(stage.cast.client("bob"), route, url),
            status(stage.cast.client("alice"), route, url),
        )
        assert found[route] == (302, 404, 403 if kind == EDIT else 200, 200), route


def test_a_read_only_member_cannot_save_extensions(stage: Stage) -> None:
    url = reverse("extensions:environment_extensions", args=[stage.account.code, stage.production.pk])
    assert stage.cast.client("bob").post(url, {"expected_revision": "0"}).status_code == 403


def test_an_environment_that_is_not_visible_is_404_everywhere(stage: Stage) -> None:
    from accounts.models import Role

    atoms.set_environment_roles(stage.production, [Role.objects.get(name="Support")], actor=stage.alice)
    bob = stage.cast.client("bob")
    for route in (
        "atoms:environment_detail",
        "extensions:environment_extensions",
        "atoms:atom_detail",
        "vaults:kms_panel",
    ):
        assert bob.get(address(stage, route)).status_code == 404, route


def test_an_id_of_another_account_is_404(stage: Stage) -> None:
    code = stage.cast.other.code
    for route in ("atoms:atom_detail", "vaults:kms_panel"):
        url = reverse(route, args=[code, stage.atom.pk])
        assert stage.cast.client("charlie").get(url).status_code == 404


def test_no_get_changes_anything(stage: Stage) -> None:
    """But for the page of a fragment being rendered: the whole database is the same before and after."""
    import hashlib

    from django.apps import apps

    from accounts.models import RateLimit, Session

    def digest() -> str:
        rows = []
        for model in apps.get_models():
            if model._meta.app_label != "account" and model not in (RateLimit, Session):
                rows.append((model._meta.label, sorted(map(str, model.objects.values_list()))))
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    things_with_pages(stage)
    alice = stage.cast.client("alice")
    before = digest()
    for route in ROUTES:
        if route not in POST_ONLY:
            alice.get(address(stage, route))
            alice.get(address(stage, route), headers={"hx-request": "true"})
    assert digest() == before
