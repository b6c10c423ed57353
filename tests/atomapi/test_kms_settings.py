"""What the settings credential reaches: the Atom's sealed settings, a verdict about their use, and nothing else."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from atoms.models import Node, NodeCredential
from tests.atomapi.test_enrol import Machine, enrolled
from tests.conftest import HostedVault, Stage
from tests.vaults.panel.test_settings import CANARY, save, upload
from vaults.models import ContainerReport, KmsAccount

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
VERDICT = {"verdict": "token_invalid", "sentence": "Your vault does not accept the token.", "settings_revision": 2}
STEP = {"step": "token", "state": "failed", "code": "token_invalid", "detail": ""}


class WithSettings:
    """A machine that shows its settings credential unless told otherwise."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.sync = machine, machine.sync

    def get(self, path: str, bearer: str = "", **headers: str) -> Any:
        return self.machine.get(path, bearer or self.machine.settings, **headers)

    def post(self, path: str, body: dict[str, Any], bearer: str = "") -> Any:
        return self.machine.post(path, body, bearer or self.machine.settings)


@pytest.fixture
def machine(stage: Stage, hosted_vault: HostedVault) -> WithSettings:
    return WithSettings(enrolled(stage, hosted_vault)[0])


def test_settings_that_were_never_saved_are_hosted(machine: WithSettings, stage: Stage) -> None:
    answer = machine.get("settings").json()
    assert (answer["revision"], answer["settings"], answer["file"]) == (1, None, None)
    assert (answer["account_code"], answer["atom"]) == (stage.account.code, str(stage.atom.pk))


def test_settings_and_file_come_sealed(machine: WithSettings, stage: Stage) -> None:
    save(stage, file=upload(), wrapped=True)
    save(stage, wrapped=False)
    answer = machine.get("settings")
    assert (answer.json()["revision"], answer.json()["file"]["revision"]) == (3, 2)
    assert CANARY not in answer.content.decode()
    assert machine.get("settings", machine.sync).json() == answer.json()


def test_a_change_of_the_settings_makes_the_next_sync_answer(machine: WithSettings, stage: Stage) -> None:
    first = machine.get("sync", machine.sync)
    tag = first.headers["ETag"]
    assert machine.get("sync", machine.sync, **{"if-none-match": tag}).status_code == 304
    save(stage, file=upload())
    answer = machine.get("sync", machine.sync, **{"if-none-match": tag})
    assert (answer.status_code, answer.json()["settings_revision"]) == (200, 2)


def test_a_verdict_changes_nothing_of_what_was_reported(machine: WithSettings) -> None:
    machine.post("report", {"source": "byov", "verdict": "ok", "values": 7, "settings_revision": 2}, machine.sync)
    assert machine.post("settings/verdict", VERDICT | {"settings_revision": 9, "preflight": [STEP]}).status_code == 204
    row = ContainerReport.objects.get()
    assert (row.verdict, row.values, row.source, row.settings_revision) == ("token_invalid", 7, "byov", 2)
    assert row.preflight == [STEP]


def test_a_verdict_is_refused_to_the_sync_credential(machine: WithSettings) -> None:
    assert machine.post("settings/verdict", VERDICT, machine.sync).status_code == 401


def test_the_settings_credential_reaches_nothing_else(machine: WithSettings) -> None:
    assert machine.get("sync").status_code == 401
    assert machine.post("report", {"source": "hosted", "verdict": "ok"}).status_code == 401
    assert machine.post("credentials", {"reason": "lost"}).status_code == 401


def test_a_replaced_sync_credential_ends_the_old_one_at_once(machine: WithSettings) -> None:
    new = "another-credential-of-43-characters-00000000"
    body = {"sync_hash": hashlib.sha256(new.encode()).hexdigest()}
    assert machine.post("credentials/sync", body).status_code == 401, "not with the settings credential"
    assert machine.post("credentials/sync", body, machine.sync).status_code == 204
    assert machine.get("sync", machine.sync).status_code == 401
    assert machine.get("sync", new).status_code == 200
    assert machine.post("credentials/sync", body, new).status_code == 204, "a lost reply is asked for again"
    other = {"sync_hash": "0" * 64}
    assert machine.post("credentials/sync", other, new).json()["code"] == "too_many_requests"
    replaced = NodeCredential.objects.get(kind="sync")
    replaced.created_at = timezone.now() - timedelta(minutes=2)
    replaced.save()
    taken = {"sync_hash": bytes(NodeCredential.objects.get(kind="settings").token_hash).hex()}
    assert machine.post("credentials/sync", taken, new).json()["code"] == "credential_taken"
    assert machine.get("sync", new).status_code == 200


@pytest.mark.parametrize("path", ["settings", "settings/verdict"])
def test_neither_door_opens_for_a_revoked_node_or_without_kms(machine: WithSettings, stage: Stage, path: str) -> None:
    def ask() -> int:
        answer = machine.get(path) if path == "settings" else machine.post(path, VERDICT)
        return int(answer.status_code)

    KmsAccount.objects.update(state="disabled")
    assert ask() == 403
    KmsAccount.objects.update(state="active")
    Node.objects.update(state=Node.State.REVOKED)
    assert ask() == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "Not A Code"},
        {"preflight": [STEP | {"state": "perhaps"}]},
        {"preflight": [STEP | {"code": "<b>"}]},
        {"preflight": [STEP] * 41},
        {"token": {"ends": -1}},
        {"token": {"because": "no such thing!"}},
        {"sentence": "\x1b[31mred"},
    ],
)
def test_what_a_container_says_is_bounded(machine: WithSettings, changes: dict[str, Any]) -> None:
    answer = machine.post("settings/verdict", VERDICT | changes)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert not ContainerReport.objects.exists()
