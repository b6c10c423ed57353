"""Web and worker together forge an enrolment: the running portal finds it within a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import AuditEntry
from atoms.models import Node
from atoms.revocation import revoke_node
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from tests.by_hand import wrapped
from tests.conftest import HostedVault
from tests.kmsruntime.container import Container, save
from tests.live import LivePortal
from tests.vaults.logins.test_watch import as_identity
from vaults.models import LoginAlarm, SecretId

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
WITHIN = 60.0


def until(is_so: Callable[[], Any], seconds: float) -> float:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds
        time.sleep(0.2)
    return time.monotonic() - began


def mails(portal: LivePortal) -> str:
    return "".join(path.read_text() for path in Path(portal.directory / "mail").glob("*.log"))


def test_a_forged_enrolment_by_both_together_raises_the_alarm_within_60_s(
    portal: LivePortal, hosted_vault: HostedVault, tmp_path: Path
) -> None:
    """One without a row, and one with a row that was inserted into the database without the portal's signature."""
    stage = portal.stage
    honest = Container(portal, tmp_path / "container").enrol()
    save(stage, password="canary of the watch")
    honest.sync()

    reader, accessor = forge(hosted_vault, str(stage.production.pk))
    document = reader.read_document("datakeys", f"{stage.production.pk}/0")
    assert reader.unwrap_data_keys("intransit", str(stage.production.pk), list(document.values()))  # it reads
    _, second = forge(hosted_vault, str(stage.production.pk))
    row = SecretId.objects.filter(mount="environments", node__isnull=False).first()
    assert row is not None
    row.pk, row.accessor, row._state.adding = None, second, True
    SecretId.objects.bulk_create([row])

    took = until(lambda: LoginAlarm.objects.filter(accessor__in=(accessor, second)).count() == 2, WITHIN)
    until(lambda: "can log in as Production" in mails(portal), WITHIN - took)
    told = AuditEntry.objects.filter(action="ALARM", account=stage.account)
    assert [("Production" in entry.message) for entry in told] == [True, True]

    assert LoginAlarm.objects.count() == 2  # and none for the container that was enrolled
    page = stage.cast.client("alice").get(f"/accounts/{stage.account.code}/kms/").content.decode()
    assert page.count("Somebody nobody enrolled can log in as Production") == 2


def forge(vault: HostedVault, environment: str) -> tuple[Vault, str]:
    """With the credentials of web and worker alone: a login of one's own. Returns its client and its accessor."""
    issuer, provisioner = (
        as_identity(vault, "web", "issuer"),
        as_identity(vault, "worker", "provisioner"),
    )
    role = f"auth/environments/role/{environment}"
    server = Vault(vault.address)
    role_id = server.unwrap_response(wrapped(provisioner, "GET", f"{role}/role-id", seconds=60).token)["role_id"]
    wrapping = wrapped(issuer, "POST", f"{role}/secret-id", {"metadata": '{"node": "forged"}'}, seconds=60)
    secret_id = server.unwrap_response(wrapping.token)["secret_id"]
    return server.with_token(server.login("environments", role_id, secret_id).token), wrapping.accessor


def test_a_revoked_machine_loses_its_logins_within_seconds_without_queue_and_worker(
    portal: LivePortal, tmp_path: Path
) -> None:
    """Only the watch can, and nobody has to tell it."""
    stage = portal.stage
    machine = Container(portal, tmp_path / "container").enrol()
    login = credentials.read_atom(machine.home).login
    portal.kill("worker")
    try:
        revoke_node(Node.objects.get(atom=stage.atom), actor=stage.alice)
        until(lambda: SecretId.objects.exclude(destroyed_at=None).count() == 2, 5)
        with pytest.raises(VaultRefused):
            Vault(portal.vault_address).login(login.mount, login.role_id, login.secret_id)
    finally:
        portal.work()
