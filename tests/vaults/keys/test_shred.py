"""Shredding: two people or the end of the grace period, checked by the shred worker; proved; and truly the end."""

import json
import shutil
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, models
from django.urls import reverse
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import Account, AuditEntry, Role, User
from accounts.privileges import ADMINISTRATOR
from extensions.models import EnvironmentManifest, ExtensionValue
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultError
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.http import HttpClient
from operations import actions as operations
from operations.models import Operation
from operations.work import sweep
from tests.conftest import PASSWORD, HostedVault, Stage, client_of
from tests.kmsruntime.conftest import *  # noqa: F403 (its fixtures)
from tests.kmsruntime.container import Container, save
from tests.vaults.keys.dying import dying_worker, grace_is_over, killed_at_every_step, leases_end
from tests.vaults.keys.rotations import recipient_of
from vaults.hosted import calls
from vaults.hosted.credentials import read_credentials
from vaults.keys import shred
from vaults.keys.disable import activate_again, disable_kms, enable_kms, set_state
from vaults.models import DataKey, KmsAccount, Recipient, ShredApproval, ShredCertificate, ShredProof

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def second_administrator(stage: Stage) -> User:
    dora = User.objects.create_user("dora@example.com", PASSWORD)
    accounts.add_member(stage.account, dora, [Role.objects.get(pk=ADMINISTRATOR)], actor="tests")
    return dora


def settle(*queues: str) -> None:
    for _ in range(4):
        leases_end()
        sweep(queues=queues or ("interactive", "bulk", "watch"))


def disabled(stage: Stage) -> KmsAccount:
    kms = disable_kms(stage.account, days=30, actor=stage.alice)
    settle()
    return kms


def ended(stage: Stage) -> None:
    """The grace period is over, as if it had been chosen so."""
    grace_is_over(stage.account)
    shred.ask_for_what_is_due()
    settle("shred")


def key_exists(vault: HostedVault, recipient: Recipient) -> bool:
    status, _ = vault.root.status_of("GET", f"{recipient.mounts.transit}/keys/{recipient.pk}")
    return status == 200


def is_destroyed(stage: Stage, vault: HostedVault) -> bool:
    recipients = list(stage.account.recipients.all())
    gone = [not key_exists(vault, row) and row.shredded_at is not None for row in recipients]
    documents = [vault.root.status_of("GET", f"{row.mounts.documents}/data/{row.pk}/0")[0] for row in recipients]
    return all(gone) and set(documents) == {404}


# -- what allows it -----------------------------------------------------------------------------------------------------


def test_one_administrator_alone_destroys_nothing(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="kept")
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    with pytest.raises(Refused, match="somebody else"):
        shred.approve_shred(operation, actor=stage.alice)
    settle("shred")
    operation.refresh_from_db()
    assert operation.error_code == "approval_missing"
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_two_administrators_destroy_it_at_once(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User
) -> None:
    save(stage, password="destroyed")
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    shred.approve_shred(operation, actor=second_administrator)
    settle("shred")
    assert is_destroyed(stage, hosted_vault)


def test_a_forged_approval_counts_for_nothing(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User
) -> None:
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    forged = ShredApproval(operation=operation, account=stage.account, user=second_administrator, signature=b"x" * 72)
    models.Model.save_base(forged, raw=True, force_insert=True)
    settle("shred")
    operation.refresh_from_db()
    assert operation.error_code == "approval_missing"
    assert key_exists(hosted_vault, recipient_of(stage.production))


@pytest.mark.parametrize(
    "who", ["a reader", "a former administrator", "an administrator of another account", "too late"]
)
def test_only_a_fresh_word_of_an_administrator_counts(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User, who: str
) -> None:
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    people = {"a reader": stage.cast.bob, "an administrator of another account": stage.cast.charlie}
    person = people.get(who, second_administrator)
    shred.approve_shred(operation, actor=person)
    if who == "a former administrator":
        accounts.add_member(stage.account, person, [], actor="tests")
    if who == "too late":
        for row in operation.shred_approvals.all():
            row.given_at -= timedelta(days=2)
            row.save()
    settle("shred")
    operation.refresh_from_db()
    assert operation.error_code == "approval_missing"
    assert key_exists(hosted_vault, recipient_of(stage.production))


@pytest.mark.parametrize("kind", ["approval", "operation", "log"])
def test_a_word_that_was_taken_back_is_none_though_its_row_was_hidden_then(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User, kind: str
) -> None:
    """On commit 8bea7c4 the second one's word was enough then, and destroyed every key; on fb9acac still where the log was cut."""
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    approvals = list(operation.shred_approvals.all())
    before = Operation.objects.filter(pk=operation.pk).values().get()
    if kind == "approval":
        operation.shred_approvals.all()._raw_delete("default")
    if kind == "operation":
        Operation.objects.filter(pk=operation.pk).update(state="done")
    shred.withdraw_shred(stage.account, actor=stage.alice)
    if kind == "log":
        AuditEntry.objects.filter(action="SHRED_WITHDRAWN").delete()
    Operation.objects.filter(pk=operation.pk).update(**before)
    for row in approvals:
        models.Model.save_base(row, raw=True)
    shred.approve_shred(operation, actor=second_administrator)
    settle("shred")
    operation.refresh_from_db()
    assert operation.error_code == "approval_missing"
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_what_the_database_calls_shredded_is_destroyed_all_the_same(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User
) -> None:
    """On commit 8bea7c4 nothing was destroyed then, and a certificate without a key said that it was."""
    save(stage, password="destroyed")
    disabled(stage)
    Recipient.objects.update(shredded_at=timezone.now())
    operation = shred.request_shred(stage.account, actor=stage.alice)
    shred.approve_shred(operation, actor=second_administrator)
    settle("shred")
    assert is_destroyed(stage, hosted_vault)
    named = {one["recipient"] for one in ShredCertificate.objects.get().document["keys"]}
    assert named == {str(pk) for pk in Recipient.objects.values_list("pk", flat=True)}


def test_what_no_row_names_is_not_certified_as_destroyed(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User
) -> None:
    """On commit fb9acac a certificate without a key said that all were destroyed, and what was sealed before was opened."""
    save(stage, password="kept")
    disabled(stage)
    with connection.cursor() as cursor, connection.constraint_checks_disabled():
        cursor.execute("DELETE FROM vaults_recipient WHERE id = %s", [stage.production.pk.hex])
    operation = shred.request_shred(stage.account, actor=stage.alice)
    shred.approve_shred(operation, actor=second_administrator)
    settle("shred")
    operation.refresh_from_db()
    assert operation.error_code == "recipients_hidden"
    assert not ShredCertificate.objects.exists()
    with pytest.raises(Refused):
        activate_again(stage.account, actor=stage.alice)


def test_a_shredding_that_the_database_calls_done_is_not(stage: Stage, second_administrator: User) -> None:
    """On commit fb9acac it was stopped like that, and the old keys were activated as new ones."""
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    set_state(KmsAccount.objects.get(), KmsAccount.State.SHREDDED, None)
    Operation.objects.filter(pk=operation.pk).update(state=Operation.State.DONE)
    Recipient.objects.update(shredded_at=timezone.now())
    with pytest.raises(Refused):
        activate_again(stage.account, actor=stage.alice)


def test_a_proof_that_the_shred_worker_did_not_write_is_none(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User
) -> None:
    save(stage, password="destroyed")
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    forged = ShredProof(operation=operation, recipient_id=stage.production.pk, before=200, after=400, data_keys=9)
    forged.data_key, forged.signature = uuid.uuid4(), b"x" * 72
    models.Model.save_base(forged, raw=True, force_insert=True)
    shred.approve_shred(operation, actor=second_administrator)
    settle("shred")
    assert is_destroyed(stage, hosted_vault)
    (told,) = (
        one for one in ShredCertificate.objects.get().document["keys"] if one["recipient"] == str(stage.production.pk)
    )
    assert told["data_keys"] < 9
    assert told["proof"]["data_key"] != str(forged.data_key)


def test_a_grace_period_shortened_in_the_database_destroys_nothing(stage: Stage, hosted_vault: HostedVault) -> None:
    disabled(stage)
    KmsAccount.objects.update(ends_at=timezone.now() - timedelta(days=1))
    shredding_asked = Operation.objects.filter(kind="vaults.shred")
    shred.ask_for_what_is_due()
    assert not shredding_asked.exists()
    operations.request("vaults.shred", account=stage.account, subject_id=stage.account.pk, title="forged", actor=None)
    settle("shred")
    assert shredding_asked.get().error_code == "record_forged"
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_at_the_end_of_the_grace_period_it_happens_by_itself(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="destroyed")
    disabled(stage)
    ended(stage)
    assert is_destroyed(stage, hosted_vault)
    assert KmsAccount.objects.get().state == KmsAccount.State.SHREDDED


def test_enabled_again_nothing_is_destroyed(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User
) -> None:
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    enable_kms(stage.account, actor=stage.alice)
    with pytest.raises(Refused):
        shred.approve_shred(operation, actor=second_administrator)
    settle("shred", "interactive")
    assert key_exists(hosted_vault, recipient_of(stage.production))
    operation.refresh_from_db()
    assert operation.state == Operation.State.CANCELLED


def test_the_worker_of_other_work_leaves_it_alone(stage: Stage, hosted_vault: HostedVault) -> None:
    disabled(stage)
    grace_is_over(stage.account)
    shred.ask_for_what_is_due()
    settle()
    assert Operation.objects.get(kind="vaults.shred").state == Operation.State.PENDING


# -- what it proves -----------------------------------------------------------------------------------------------------


def test_each_key_is_proved_alive_before_and_dead_after(stage: Stage) -> None:
    save(stage, password="destroyed")
    disabled(stage)
    ended(stage)
    proof = ShredProof.objects.get(recipient=stage.production.pk)
    assert (proof.before, proof.after, proof.data_keys) == (200, 400, 1)
    assert DataKey.objects.filter(pk=proof.data_key).exists()
    empty = ShredProof.objects.get(recipient=stage.test.pk)
    assert (empty.before, empty.after, empty.data_key) == (0, 0, None)


def test_the_certificate_says_what_was_destroyed_and_what_remains(enrolled: Container) -> None:
    stage = enrolled.stage
    save(stage, password="destroyed", apiKey="as well")
    enrolled.sync()
    disabled(stage)
    ended(stage)
    certificate = ShredCertificate.objects.get()
    document = certificate.document
    assert {key["name"] for key in document["keys"]} == {"Production", "Test", "Orders Atom", "Second Atom"}
    assert document["containers"][0]["values"] == 2
    assert document["containers"][0]["plaintext_key_on_disk"] is True
    entry = AuditEntry.objects.get(account=stage.account, seq=document["audit"]["seq"])
    assert entry.action == "SHREDDED"
    alice = stage.cast.client("alice")
    page = reverse("vaults:shred_certificate", args=[stage.account.code, certificate.pk])
    downloaded = json.loads(alice.get(f"{page}?download").content)
    assert downloaded == document | {"signature": bytes(certificate.signature).hex()}
    assert "was changed" not in alice.get(page).content.decode()
    ShredCertificate.objects.update(document=document | {"data_keys": 0})
    assert "This certificate was changed" in alice.get(page).content.decode()


# -- that it is the end -------------------------------------------------------------------------------------------------


def every_login(vault: HostedVault, container: Container) -> Iterator[Vault]:
    """A token of each credential there is: the portal's identities, and what a container has on its disk."""
    server = Vault(vault.address)
    for path in sorted(vault.credentials.iterdir()):
        for one in read_credentials(path).identities.values():
            yield server.with_token(server.login("platform", one.role_id, one.secret_id).token)
    for text in (path.read_text() for path in container.directory.glob("*.json")):
        found = json.loads(text)
        for value in (found, *found.values()) if isinstance(found, dict) else ():
            if isinstance(value, dict) and {"role_id", "secret_id"} <= value.keys():
                for mount in ("environments", "atoms"):
                    try:
                        yield server.with_token(server.login(mount, value["role_id"], value["secret_id"]).token)
                    except VaultError:
                        continue


def test_every_credential_together_with_a_backup_opens_nothing(
    enrolled: Container, hosted_vault: HostedVault, tmp_path: Path
) -> None:
    stage = enrolled.stage
    save(stage, password="destroyed for good")
    enrolled.sync()
    backup = {table: list(table.objects.all()) for table in (ExtensionValue, EnvironmentManifest, DataKey, Recipient)}
    wrapped = hosted_vault.root.read_document("datakeys", f"{stage.production.pk}/0")
    disk = tmp_path / "disk"
    shutil.copytree(enrolled.directory, disk)
    disabled(stage)
    ended(stage)
    for table, rows in backup.items():
        for row in rows:
            models.Model.save_base(row, raw=True)
        assert table.objects.count() == len(rows)
    tried = 0
    logins = [hosted_vault.root, *every_login(hosted_vault, Container(enrolled.portal, disk))]
    for vault in logins:
        for text in wrapped.values():
            for call in ("decrypt", "rewrap"):
                path, body = f"intransit/{call}/{stage.production.pk}", {"ciphertext": text}
                status, answer = vault.status_of("POST", path, body)
                assert status in (400, 403, 404), (status, call)
                assert not (answer or {}).get("data")
                tried += 1
    assert tried >= 2 * 8


def test_activated_again_the_old_values_stay_lost_and_new_ones_work(enrolled: Container) -> None:
    stage = enrolled.stage
    save(stage, password="destroyed", apiKey="destroyed as well")
    enrolled.sync()
    disabled(stage)
    ended(stage)
    with pytest.raises(Exception, match="shredded"):
        save(stage, password="too early")
    activate_again(stage.account, actor=stage.alice)
    settle()
    save(stage, password="entered again")
    enrolled.sync()
    held = enrolled.values()
    assert held["Orders database/password"] == "entered again"
    assert "Orders database/apiKey" not in held


# -- whatever happens on the way ----------------------------------------------------------------------------------------


def forget_others(vault: HostedVault) -> None:
    """The ledger of this vault has every test's environments and Atoms, each of which would be a step to be killed at."""
    ours = {str(pk) for pk in Recipient.objects.values_list("pk", flat=True)}
    for kind in ("environments", "atoms"):
        for name in vault.root.call("LIST", f"authority/metadata/{kind}")["data"]["keys"]:
            if name not in ours:
                vault.root.call("DELETE", f"authority/metadata/{kind}/{name}")


@pytest.mark.slow
def test_a_shred_worker_killed_at_every_step_ends_in_the_same_state(stage: Stage, hosted_vault: HostedVault) -> None:
    forget_others(hosted_vault)
    with dying_worker(hosted_vault, "shredder") as worker:

        def begin() -> None:
            kms = KmsAccount.objects.get(account=stage.account)
            if kms.state == KmsAccount.State.SHREDDED:
                activate_again(stage.account, actor=stage.alice)
                settle()
            save(stage, password="destroyed")
            disabled(stage)
            grace_is_over(stage.account)
            shred.ask_for_what_is_due()

        def check(_: Any) -> None:
            assert is_destroyed(stage, hosted_vault)
            operation = Operation.objects.filter(kind="vaults.shred").latest("requested_at")
            assert operation.state == Operation.State.DONE
            proof = ShredProof.objects.get(operation=operation, recipient=stage.production.pk)
            assert (proof.before, proof.after) == (200, 400)
            assert ShredCertificate.objects.filter(operation=operation).count() == 1
            assert not ExtensionValue.objects.filter(form="sealed", data_key__lost_at=None).exists()

        assert killed_at_every_step(worker, begin, check, "shred") > 40


def test_shredding_makes_no_call_per_value(stage: Stage, hosted_vault: HostedVault) -> None:
    for number in range(3):
        save(stage, password=f"value {number}", apiKey=f"key {number}")
    disabled(stage)
    paths: list[str] = []
    real = HttpClient.request

    def counted(self: HttpClient, method: str, path: str, *rest: Any, **named: Any) -> Any:
        paths.append(path)
        return real(self, method, path, *rest, **named)

    HttpClient.request = counted  # type: ignore[method-assign]
    try:
        ended(stage)
    finally:
        HttpClient.request = real  # type: ignore[method-assign]
    own = [path for path in paths if "/authority/" not in path]  # of which this vault has other tests', too
    assert len(own) < 12 * Recipient.objects.count()


def test_the_pages_ask_two_people(stage: Stage, second_administrator: User) -> None:
    account = reverse("vaults:kms_account", args=[stage.account.code])
    alice, dora = stage.cast.client("alice"), client_of(second_administrator)
    code = {"code": stage.account.code}
    disabled(stage)
    assert alice.post(f"{account}shred/", code).status_code == 302
    assert "You asked for it" in alice.get(f"{account}shred/approve/").content.decode()
    assert "Look at it and approve" in dora.get(account).content.decode()
    assert alice.post(f"{account}shred/withdraw/").status_code == 302
    assert not Operation.objects.unfinished().filter(kind="vaults.shred").exists()
    assert alice.post(f"{account}shred/", code).status_code == 302
    assert dora.post(f"{account}shred/approve/", {"code": "wrong"}).status_code == 422
    assert dora.post(f"{account}shred/approve/", code).status_code == 302
    settle("shred")
    assert "Shredded" in alice.get(account).content.decode()
    assert Account.objects.get(pk=stage.account.pk).shred_certificates.count() == 1
    connection.close()
    assert calls.roles("environments") is not None
