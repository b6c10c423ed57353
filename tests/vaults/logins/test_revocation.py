"""The kill switch: refused by the portal with the commit, by the vault moments later, whoever has which copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from atoms import actions as atoms
from atoms import revocation
from atoms.models import Atom, InstallerToken, Node, NodeCredential
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from kmsruntime.errors import PortalRefused
from operations.models import Operation
from operations.work import sweep
from tests.conftest import HostedVault, Stage
from tests.kmsruntime.container import Container, save
from tests.live import LivePortal
from tests.vaults.keys.dying import dying_worker, killed_at_every_step
from tests.vaults.logins.made_logins import enrolled, forged
from vaults.hosted import calls
from vaults.hosted.sessions import drop_tokens
from vaults.models import SecretId

pytestmark = pytest.mark.django_db(transaction=True)
QUICK_SECONDS = 15.0  # from the click to the vault, with one worker that may be looking for readers just then


def is_gone(mount: str, recipient: object, accessor: str) -> bool:
    return calls.look_up_secret_id(mount, recipient, accessor) is None


def the_operation() -> Operation:
    return Operation.objects.get(kind=revocation.KIND)


def test_everything_of_the_node_is_destroyed_and_proved_gone(stage: Stage) -> None:
    """What the portal issued, and what somebody made past it in the node's name; nobody else's."""
    node = enrolled(stage)
    stranger = forged("environments", stage.production.pk, {"node": str(node.pk)})
    other = forged("environments", stage.production.pk, {"node": "somebody else"})
    revocation.revoke_node(node, actor=stage.alice)
    assert not NodeCredential.objects.filter(node=node).exists()
    sweep()
    assert the_operation().state == Operation.State.DONE
    rows = list(SecretId.objects.filter(node=node))
    assert len(rows) == 2
    assert all(row.destroyed_at and is_gone(row.mount, row.recipient_id, row.accessor) for row in rows)
    assert is_gone("environments", stage.production.pk, stranger)
    assert not is_gone("environments", stage.production.pk, other)
    receipt = revocation.receipts_of(stage.atom)[0]
    details = receipt.operation.details
    assert (details["destroyed"], details["unknown"]) == (3, 1)
    assert receipt.destroyed_at is not None
    assert receipt.tokens_end is not None
    assert receipt.portal_seconds is not None
    assert receipt.vault_seconds is not None
    assert receipt.portal_seconds <= receipt.vault_seconds
    assert (receipt.tokens_end - receipt.destroyed_at).total_seconds() == 300
    assert [row.action for row in AuditEntry.objects.filter(action__startswith="REVOKE").order_by("seq")] == [
        "REVOKE",
        "REVOKED",
    ]


def test_asking_for_another_nodes_credentials_past_the_portal_destroys_nothing(stage: Stage) -> None:
    node = enrolled(stage)
    operation = revocation.revoke_node(Node.objects.create(atom=stage.second), actor=stage.alice)
    operation.details["nodes"].append({"id": str(node.pk), "name": "host1"})
    Operation.objects.filter(pk=operation.pk).update(details=operation.details)
    sweep()
    assert not any(is_gone(row.mount, row.recipient_id, row.accessor) for row in SecretId.objects.filter(node=node))


def test_a_vault_that_is_away_keeps_the_portals_refusal_and_says_what_waits(stage: Stage, settings: Any) -> None:
    node = enrolled(stage)
    address, settings.VAULT_ADDR = settings.VAULT_ADDR, "http://127.0.0.1:1"
    drop_tokens()
    revocation.revoke_node(node, actor=stage.alice)
    sweep()
    operation = the_operation()
    assert (operation.state, operation.error_code) == (Operation.State.WAITING, "vault_unreachable")
    assert "destroyed_at" not in operation.details
    page = stage.cast.client("bob").get(
        f"/accounts/{stage.account.code}/atoms/{stage.atom.pk}/revocations/{operation.pk}/"
    )
    assert "The vault cannot be reached." in page.content.decode()
    assert not NodeCredential.objects.filter(node=node).exists()
    settings.VAULT_ADDR = address
    drop_tokens()
    operation.run_after = operation.requested_at
    operation.save(update_fields=["run_after"])
    sweep()
    assert "destroyed_at" in the_operation().details


def test_all_nodes_at_once_withdraws_unused_installer_tokens(stage: Stage) -> None:
    atom = atoms.create_atom(
        stage.account, name="Many", type="MOLECULE", environment=stage.production, actor=stage.alice
    )
    nodes = [Node.objects.create(atom=atom, state=Node.State.ENROLLED, host_name=f"host{n}") for n in range(3)]
    atoms.create_installer_token(atom, minutes=30, actor=stage.alice)
    page = f"/accounts/{stage.account.code}/atoms/{atom.pk}/revoke/"
    alice = stage.cast.client("alice")
    assert "Revoke 3 nodes" in alice.get(page).content.decode()
    assert alice.post(page).status_code == 302
    assert set(atom.nodes.values_list("state", flat=True)) == {Node.State.REVOKED}
    assert InstallerToken.objects.get(atom=atom).withdrawn_at is not None
    receipt = revocation.receipts_of(atom)[0]
    assert {row["id"] for row in receipt.nodes} == {str(node.pk) for node in nodes}
    assert alice.post(page).status_code == 200  # a second click finds nothing left to do
    assert Operation.objects.filter(kind=revocation.KIND).count() == 1


def test_a_read_only_member_cannot_revoke_and_can_read_the_receipt(stage: Stage) -> None:
    node = enrolled(stage)
    bob, at = stage.cast.client("bob"), f"/accounts/{stage.account.code}/atoms/{stage.atom.pk}/"
    assert bob.post(f"{at}revoke/").status_code == 403
    operation = revocation.revoke_node(node, actor=stage.alice)
    assert bob.get(f"{at}revocations/{operation.pk}/").status_code == 200
    other = f"/accounts/{stage.account.code}/atoms/{stage.second.pk}/revocations/{operation.pk}/"
    assert stage.cast.client("alice").get(other).status_code == 404


def test_the_atoms_page_asks_as_many_queries_for_one_receipt_as_for_three(stage: Stage) -> None:
    alice, page, counted = stage.cast.client("alice"), f"/accounts/{stage.account.code}/atoms/{stage.atom.pk}/", []
    for number in (1, 2):
        for _ in range(number):
            revocation.revoke_node(Node.objects.create(atom=stage.atom), actor=stage.alice)
        sweep()
        with CaptureQueriesContext(connection) as queries:
            alice.get(page, headers={"hx-request": "true"})
        counted.append(len(queries))
    assert counted[0] == counted[1]


@pytest.mark.slow
def test_a_worker_killed_at_every_step_leaves_the_same_end(stage: Stage, hosted_vault: HostedVault) -> None:
    """As if it had run once: everything gone, one audit entry, one receipt."""
    atom = atoms.create_atom(stage.account, name="Alone", type="MOLECULE", environment=None, actor=stage.alice)
    sweep()

    def begin() -> Operation:
        node = Node.objects.create(atom=atom, state=Node.State.ENROLLED, host_name="host1")
        row = SecretId(node=node, atom_id=atom.pk, attachment_revision=0, mount="atoms", recipient_id=atom.pk)
        row.accessor = forged("atoms", atom.pk, {"node": str(node.pk)})
        row.save(force_insert=True)
        forged("atoms", atom.pk, {"node": str(node.pk)})
        return revocation.revoke_node(node, actor=stage.alice)

    def check(operation: Operation) -> None:
        operation.refresh_from_db()
        assert operation.state == Operation.State.DONE
        assert calls.secret_ids("atoms", str(atom.pk)) == []
        assert SecretId.objects.filter(node_id=operation.subject_id, destroyed_at=None).count() == 0
        assert "destroyed_at" in operation.details
        told = AuditEntry.objects.filter(action="REVOKED")
        assert len([row for row in told if row.properties["operation"] == str(operation.pk)]) == 1

    with dying_worker(hosted_vault, "watch") as watch:
        assert killed_at_every_step(watch, begin, check, "watch") > 15


# -- with real containers ----------------------------------------------------------------------------------------------


def vault_refuses(container: Container) -> bool:
    vault = Vault(container.portal.vault_address)
    for login in (credentials.read_atom(container.home).login, credentials.read_environment(container.home).login):
        assert login is not None
        try:
            vault.login(login.mount, login.role_id, login.secret_id)
        except VaultRefused:
            continue
        return False
    return True


def molecule(stage: Stage) -> Atom:
    made = atoms.create_atom(
        stage.account, name="Molecule", type="MOLECULE", environment=stage.production, actor=stage.alice
    )
    sweep()
    return made


@pytest.mark.slow
def test_a_revoked_container_and_a_copy_of_its_disk_are_refused_and_the_others_go_on(
    portal: LivePortal, tmp_path: Path
) -> None:
    stage = portal.stage
    atom = molecule(stage)
    first, second = (Container(portal, tmp_path / name).enrol(atom) for name in ("first", "second"))
    save(stage, password="one")
    for container in (first, second):
        container.sync()
    shutil.copytree(first.directory, tmp_path / "copy")
    copy = Container(portal, tmp_path / "copy")
    copy.sync()

    node = Node.objects.get(pk=credentials.read_atom(first.home).node)
    alice = stage.cast.client("alice")
    page = f"/accounts/{stage.account.code}/atoms/{atom.pk}/nodes/{node.pk}/revoke/"
    assert "still holds" in alice.get(page).content.decode()
    answer = alice.post(page)
    for refused in (first, copy):  # at once, whatever the worker does
        with pytest.raises(PortalRefused) as told:
            refused.sync()
        assert told.value.code == "credential_unknown"
    until(lambda: "destroyed_at" in the_operation().details)
    assert vault_refuses(first)
    assert vault_refuses(copy)

    receipt = revocation.receipts_of(atom)[0]
    assert receipt.vault_seconds is not None
    assert receipt.portal_seconds is not None
    assert receipt.portal_seconds < 1
    assert receipt.vault_seconds < QUICK_SECONDS
    assert receipt.refused_at is not None
    text = alice.get(answer.headers["Location"]).content.decode()
    assert "It asked again" in text
    assert "still holds <b>1 value</b> of Production" in text

    save(stage, password="two")
    second.sync()
    assert second.values()["Orders database/password"] == "two"
    assert first.values()["Orders database/password"] == "one"  # which the page says

    shutil.rmtree(first.directory)
    first.enrol(atom)
    first.sync()
    assert first.values()["Orders database/password"] == "two"


def until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
