"""Enrolment over HTTP: what a machine with an installer token gets, and what nobody else does."""

import hashlib
import secrets
from typing import Any

import orjson
import pytest
from django.test import Client
from django.utils import timezone

from atoms import actions as atoms
from atoms.models import Atom, InstallerToken, Node
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from operations.work import sweep
from tests.conftest import HostedVault, Stage
from vaults.models import Enrolment, SecretId

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
API = "/api/atom/v1/"


class Machine:
    """A container in a test: two credentials of its own, and HTTP."""

    def __init__(self, installer_token: str) -> None:
        self.token = installer_token
        self.sync, self.settings = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.http = Client()

    def post(self, path: str, body: dict[str, Any], bearer: str | None = None) -> Any:
        headers = {"authorization": f"Bearer {bearer or self.sync}"}
        return self.http.post(API + path, orjson.dumps(body), content_type="application/json", headers=headers)

    def get(self, path: str, bearer: str | None = None, **headers: str) -> Any:
        return self.http.get(API + path, headers={"authorization": f"Bearer {bearer or self.sync}", **headers})

    def enrol(self) -> Any:
        hashes = {
            "sync_hash": hashlib.sha256(self.sync.encode()).hexdigest(),
            "settings_hash": hashlib.sha256(self.settings.encode()).hexdigest(),
        }
        return self.post("enrol", {**hashes, "host_name": "host1", "version": "0.1.0"}, self.token)

    def delivery(self) -> dict[str, Any]:
        enrolment = self.enrol().json()["enrolment"]
        sweep()
        answer = self.get(f"enrolments/{enrolment}")
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    def log_in(self, vault: Vault, grant: dict[str, Any]) -> tuple[Vault, str]:
        """Unwrap both halves and log in; returns the client and the secret_id's accessor."""
        role_id = vault.unwrap_response(grant["role_id_token"])["role_id"]
        secret = vault.unwrap_response(grant["secret_id_token"])
        login = vault.login(grant["mount"], role_id, secret["secret_id"])
        return vault.with_token(login.token), secret["secret_id_accessor"]


def installer_token(stage: Stage, minutes: int = 60) -> str:
    return atoms.create_installer_token(stage.atom, minutes=minutes, actor=stage.alice)[1]


def enrolled(stage: Stage, vault: HostedVault) -> tuple[Machine, dict[str, Vault]]:
    return enrolled_with(installer_token(stage), vault)


def enrolled_with(token: str, vault: HostedVault) -> tuple[Machine, dict[str, Vault]]:
    machine = Machine(token)
    delivery = machine.delivery()
    clients, accessors = {}, []
    for grant in delivery["grants"]:
        clients[grant["mount"]], accessor = machine.log_in(Vault(vault.address), grant)
        accessors.append(accessor)
    assert machine.post(f"enrolments/{delivery['enrolment']}/confirm", {"accessors": accessors}).status_code == 200
    return machine, clients


def test_a_machine_enrols_and_logs_in(stage: Stage, hosted_vault: HostedVault) -> None:
    machine, clients = enrolled(stage, hosted_vault)
    assert clients["atoms"].new_data_key("atrest", str(stage.atom.pk)).key_version == 1
    assert Node.objects.get(atom=stage.atom).state == Node.State.ENROLLED
    assert InstallerToken.objects.get().spent_at is not None
    assert machine.get("sync", machine.sync).json()["environment"]["name"] == "Production"


def test_nothing_unwrapped_or_usable_alone_is_in_the_database(stage: Stage, hosted_vault: HostedVault) -> None:
    machine = Machine(installer_token(stage))
    grants = machine.delivery()["grants"]
    row = Enrolment.objects.get()
    stored = [str(value) for model in (row, *SecretId.objects.all()) for value in vars(model).values()]
    for grant in grants:
        assert grant["secret_id_token"] not in stored


def test_a_lost_reply_is_asked_for_again(stage: Stage, hosted_vault: HostedVault) -> None:
    machine = Machine(installer_token(stage))
    first = machine.enrol().json()
    assert machine.enrol().json()["enrolment"] == first["enrolment"]
    lost, again = machine.delivery(), machine.delivery()
    accessors = [machine.log_in(Vault(hosted_vault.address), grant)[1] for grant in again["grants"]]
    assert machine.post(f"enrolments/{again['enrolment']}/confirm", {"accessors": accessors}).status_code == 200
    sweep()
    vault = Vault(hosted_vault.address)
    secret = vault.unwrap_response(lost["grants"][0]["secret_id_token"])
    role_id = hosted_vault.root.call("GET", f"auth/atoms/role/{stage.atom.pk}/role-id")["data"]["role_id"]
    with pytest.raises(VaultRefused):
        vault.login("atoms", role_id, secret["secret_id"])


@pytest.mark.parametrize("case", ["unknown", "spent", "expired", "withdrawn", "in_use"])
def test_a_bad_installer_token_is_refused_with_its_reason(stage: Stage, hosted_vault: HostedVault, case: str) -> None:
    token = installer_token(stage)
    row = InstallerToken.objects.get()
    if case == "unknown":
        token = InstallerToken.new_token("ATOM")
    elif case == "in_use":
        Machine(token).enrol()
    else:
        column = {"spent": "spent_at", "expired": "expires_at", "withdrawn": "withdrawn_at"}[case]
        setattr(row, column, timezone.now())
        row.save()
    answer = Machine(token).enrol()
    assert answer.status_code == (401 if case == "unknown" else 409)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == f"installer_token_{case}"


def test_an_installer_token_written_past_the_application_is_refused(stage: Stage, hosted_vault: HostedVault) -> None:
    token = installer_token(stage)
    InstallerToken.objects.update(atom=stage.second)
    assert Machine(token).enrol().json()["code"] == "installer_token_unknown"


def test_a_used_up_role_id_can_be_wrapped_anew(stage: Stage, hosted_vault: HostedVault) -> None:
    machine = Machine(installer_token(stage))
    delivery = machine.delivery()
    Vault(hosted_vault.address).unwrap_response(delivery["grants"][0]["role_id_token"])  # and then it crashed
    assert machine.post(f"enrolments/{delivery['enrolment']}/again", {}).status_code == 202
    sweep()
    fresh = machine.get(f"enrolments/{delivery['enrolment']}").json()
    assert machine.log_in(Vault(hosted_vault.address), fresh["grants"][0])


def test_an_intrusion_voids_the_enrolment(stage: Stage, hosted_vault: HostedVault) -> None:
    machine = Machine(installer_token(stage))
    delivery = machine.delivery()
    path = f"enrolments/{delivery['enrolment']}"
    assert machine.post(f"{path}/intrusion", {"mount": "atoms"}).status_code == 202
    sweep()
    assert machine.get(path).json()["code"] == "enrolment_intruded"
    assert not SecretId.objects.filter(destroyed_at=None).exists()


def test_moving_an_atom_takes_the_old_credentials_and_gives_new_ones(stage: Stage, hosted_vault: HostedVault) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    sweep()
    old = SecretId.objects.get(mount="environments")
    assert old.destroyed_at is not None
    enrolment = machine.post("credentials", {"reason": "attachment"}, machine.sync).json()["enrolment"]
    sweep()
    delivery = machine.get(f"enrolments/{enrolment}").json()
    assert delivery["environment"]["name"] == "Test"
    assert {grant["recipient"] for grant in delivery["grants"]} == {str(stage.atom.pk), str(stage.test.pk)}


def test_an_atom_moved_while_enrolling_gets_its_new_place_only(stage: Stage, hosted_vault: HostedVault) -> None:
    machine = Machine(installer_token(stage))
    enrolment = machine.enrol().json()["enrolment"]
    sweep()
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    assert machine.get(f"enrolments/{enrolment}").status_code == 202
    sweep()
    recipients = {grant["recipient"] for grant in machine.get(f"enrolments/{enrolment}").json()["grants"]}
    assert recipients == {str(stage.atom.pk), str(stage.test.pk)}


def test_a_revoked_node_is_refused_at_once(stage: Stage, hosted_vault: HostedVault) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    atoms.revoke_node(Node.objects.get(), actor=stage.alice)
    assert machine.get("sync", machine.sync).json()["code"] == "credential_unknown"
    sweep()
    assert not SecretId.objects.filter(destroyed_at=None).exists()


def test_a_settings_credential_cannot_sync(stage: Stage, hosted_vault: HostedVault) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    assert machine.get("sync", machine.settings).status_code == 401


def test_another_machines_enrolment_is_unknown(stage: Stage, hosted_vault: HostedVault) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    row = atoms.create_installer_token(stage.second, minutes=60, actor=stage.alice)
    other = Machine(row[1])
    other.enrol()
    foreign = Enrolment.objects.get(node__atom=stage.atom)
    assert other.get(f"enrolments/{foreign.pk}").json()["code"] == "enrolment_unknown"


def test_sync_answers_304_until_something_changes(stage: Stage, hosted_vault: HostedVault) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    first = machine.get("sync", machine.sync)
    tag = first.headers["ETag"]
    assert machine.get("sync", machine.sync, **{"if-none-match": tag}).status_code == 304
    from tests.extensions.test_save_extensions import save

    save(stage, 0, password="canary")
    changed = machine.get("sync", machine.sync, **{"if-none-match": tag})
    assert changed.status_code == 200
    assert [value[0][2] for value in changed.json()["values"]] == ["password"]


def test_sync_sends_only_what_changed(stage: Stage, hosted_vault: HostedVault) -> None:
    from tests.extensions.test_save_extensions import save

    machine, _ = enrolled(stage, hosted_vault)
    save(stage, 0, password="one", apiKey="two")
    save(stage, 1, apiKey="three")
    answer = machine.get(f"sync?since=1&environment={stage.production.pk}", machine.sync).json()
    assert [value[0][2] for value in answer["values"]] == ["apiKey"]
    assert answer["plain"] == []
    whole = machine.get(f"sync?since=1&environment={stage.test.pk}", machine.sync).json()
    assert len(whole["values"]) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [("revoked", "credential_unknown"), ("kms_off", "kms_inactive"), ("forged", "record_forged"), ("moved", None)],
)
def test_a_remembered_304_ends_with_what_it_stood_on(
    stage: Stage, hosted_vault: HostedVault, change: str, code: str | None
) -> None:
    from vaults.models import KmsAccount

    machine, _ = enrolled(stage, hosted_vault)
    tag = machine.get("sync", machine.sync).headers["ETag"]
    for _ in range(2):
        assert machine.get("sync", machine.sync, **{"if-none-match": tag}).status_code == 304
    if change == "revoked":
        atoms.revoke_node(Node.objects.get(), actor=stage.alice)
    elif change == "kms_off":
        KmsAccount.objects.update(state=KmsAccount.State.DISABLED)
    elif change == "forged":
        Atom.objects.filter(pk=stage.atom.pk).update(attached_to=stage.test)
    else:
        atoms.attach(stage.atom, stage.test, actor=stage.alice)
    answer = machine.get("sync", machine.sync, **{"if-none-match": tag})
    assert answer.json().get("code") == code
    assert answer.status_code != 304
