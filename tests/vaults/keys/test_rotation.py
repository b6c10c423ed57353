"""Rotation of in-transit keys: every wrapped data key is rewrapped, nothing else changes, earlier versions end late enough."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from atoms import actions as atoms
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from operations import actions as operations
from operations.models import Operation
from operations.work import run, sweep
from tests.by_hand import add_to_document
from tests.conftest import HostedVault, Stage
from tests.kmsruntime.container import save
from tests.vaults.keys import rotations as look
from vaults.hosted import calls
from vaults.hosted.credentials import read_credentials
from vaults.hosted.hvac_client import client_of, rewrap_data_keys
from vaults.keys import rotation_worker
from vaults.keys.rotation import next_rotation, rotate_scheduled, set_schedule
from vaults.models import DataKey, KmsAccount, Recipient, RecipientRotation

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def part(operation: Operation) -> RecipientRotation:
    return RecipientRotation.objects.get(operation=operation)


# -- what it does ------------------------------------------------------------------------------------------------------


def test_every_wrapped_data_key_is_rewrapped_and_no_ciphertext_changes(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    save(stage, apiKey="two")
    before, sealed = look.entries(hosted_vault, stage.production), look.ciphertexts()
    opened = {
        key: hosted_vault.root.unwrap_data_key("intransit", str(stage.production.pk), w) for key, w in before.items()
    }
    operation = look.finished(look.rotate(stage, stage.production))
    after = look.entries(hosted_vault, stage.production)
    assert (operation.state, operation.done, operation.failed) == (Operation.State.DONE, 2, 0)
    assert look.versions(hosted_vault, stage.production) == {2: 2}
    assert look.key(hosted_vault, stage.production) == (2, 2)
    assert {
        key: hosted_vault.root.unwrap_data_key("intransit", str(stage.production.pk), w) for key, w in after.items()
    } == opened
    assert look.ciphertexts() == sealed
    assert set(DataKey.objects.filter(recipient=stage.production.pk).values_list("key_version", flat=True)) == {2}
    assert not any(look.opens(hosted_vault, stage.production, wrapped) for wrapped in before.values())


def test_only_the_keys_that_were_asked_for_are_rotated(stage: Stage, hosted_vault: HostedVault) -> None:
    look.finished(look.rotate(stage, stage.production))
    assert look.key(hosted_vault, stage.test) == look.key(hosted_vault, stage.atom) == (1, 1)
    row = Recipient.objects.get(pk=stage.production.pk)
    assert (row.in_transit_version, row.oldest_version, row.rotated_at is not None) == (2, 2, True)


def test_all_documents_are_rewrapped_a_batch_at_a_time(stage: Stage, hosted_vault: HostedVault) -> None:
    look.filled(hosted_vault, stage.production, 1150)
    operation = look.finished(look.rotate(stage, stage.production))
    assert sorted(look.documents(hosted_vault, stage.production)) == [0, 1, 2]
    assert look.versions(hosted_vault, stage.production) == {2: 1150}
    assert (operation.done, operation.total, part(operation).rewrapped) == (1150, 1150, 1150)


def test_progress_grows_with_every_batch(
    stage: Stage, hosted_vault: HostedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    look.filled(hosted_vault, stage.production, 1150)
    operation = look.rotate(stage, stage.production)
    monkeypatch.setattr(rotation_worker, "WRITE_SECONDS", 0.0)
    put_back, seen = calls.patch_document, list[int]()

    def patch_document(*arguments: Any) -> bool:
        seen.append(Operation.objects.get(pk=operation.pk).done)
        return put_back(*arguments)

    monkeypatch.setattr(calls, "patch_document", patch_document)
    look.finished(operation)
    assert seen == [0, 400, 500, 900, 1000]


def test_documents_beyond_the_count_are_rewrapped_too(stage: Stage, hosted_vault: HostedVault) -> None:
    """As after the restore of an older database."""
    look.filled(hosted_vault, stage.production, 700)
    Recipient.objects.filter(pk=stage.production.pk).update(data_keys_made=0)
    DataKey.objects.filter(recipient=stage.production.pk).delete()
    look.finished(look.rotate(stage, stage.production))
    assert look.versions(hosted_vault, stage.production) == {2: 700}


def test_a_rotation_of_many_tells_how_many(stage: Stage, hosted_vault: HostedVault) -> None:
    rows = list(stage.account.recipients.present())
    operation = look.finished(look.rotate(stage, *rows))
    assert operation.title == "Rotate the in-transit keys of 4 environments and Atoms"
    assert {look.key(hosted_vault, row) for row in rows} == {(2, 2)}
    assert [row["to_version"] for row in operation.details["recipients"]] == [2, 2, 2, 2]


def test_the_receipt_and_the_audit_tell_names_and_counts_and_nothing_wrapped(stage: Stage) -> None:
    save(stage, password="one")
    operation = look.finished(look.rotate(stage, stage.production))
    assert operation.title == "Rotate the in-transit keys of Production"
    assert operation.details["recipients"] == [
        {
            "id": str(stage.production.pk),
            "name": "Production",
            "from_version": 1,
            "to_version": 2,
            "rewrapped": 1,
            "late": 0,
            "broken": 0,
        }
    ]
    told = AuditEntry.objects.filter(account=stage.account, action__in=("ROTATE", "ROTATED")).order_by("seq")
    assert [(entry.action, entry.actor_name) for entry in told] == [
        ("ROTATE", stage.alice.email),
        ("ROTATED", "rotator"),
    ]
    assert "vault:v" not in repr([operation.details, [entry.properties for entry in told]])


# -- the ten minutes ---------------------------------------------------------------------------------------------------


def test_earlier_versions_are_refused_only_ten_minutes_later(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    operation = look.rotate(stage, stage.production)
    sweep()
    operation.refresh_from_db()
    settle_at = part(operation).settle_at
    assert settle_at is not None
    assert abs((settle_at - timezone.now()).total_seconds() - 600) < 20
    assert look.key(hosted_vault, stage.production) == (2, 1)
    assert (operation.state, operation.run_after) == (Operation.State.WAITING, settle_at)
    assert operation.error_sentence == (
        f"Rewrapped. At {settle_at:%H:%M} UTC every document is read again, then earlier versions are refused."
    )


def test_a_save_in_flight_is_rewrapped_ten_minutes_later(stage: Stage, hosted_vault: HostedVault) -> None:
    """Its data key was made before the rotation, its document patched after the first reading."""
    save(stage, password="one")
    old = calls.new_data_key(look.recipient_of(stage.production))
    operation = look.rotate(stage, stage.production)
    sweep()
    calls.store_wrapped_keys(
        look.recipient_of(stage.production), 0, {"6f9d4f0a-0000-4000-8000-000000000001": old.wrapped}
    )
    assert look.versions(hosted_vault, stage.production) == {2: 1, 1: 1}
    look.finished(operation)
    assert look.versions(hosted_vault, stage.production) == {2: 2}
    assert (part(operation).late, part(operation).rewrapped) == (1, 1)
    assert look.key(hosted_vault, stage.production) == (2, 2)


def test_after_a_late_one_the_documents_are_read_once_more(stage: Stage, hosted_vault: HostedVault) -> None:
    """A runtime may just have read the old one."""
    old = calls.new_data_key(look.recipient_of(stage.production))
    operation = look.rotate(stage, stage.production)
    sweep()
    calls.store_wrapped_keys(
        look.recipient_of(stage.production), 0, {"6f9d4f0a-0000-4000-8000-000000000001": old.wrapped}
    )
    past = timezone.now() - timedelta(seconds=1)
    RecipientRotation.objects.update(settle_at=past)
    Operation.objects.filter(pk=operation.pk).update(run_after=past)
    sweep()
    again = part(operation).settle_at
    assert again is not None
    assert 30 < (again - timezone.now()).total_seconds() <= 60
    assert look.key(hosted_vault, stage.production)[1] < 2
    assert look.opens(hosted_vault, stage.production, old.wrapped)
    look.finished(operation)
    assert look.key(hosted_vault, stage.production) == (2, 2)


def test_saves_go_on_meanwhile(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    operation = look.rotate(stage, stage.production)
    sweep()
    save(stage, password="two")
    assert look.versions(hosted_vault, stage.production) == {2: 2}
    look.finished(operation)
    assert (part(operation).rewrapped, part(operation).late) == (1, 0)


def test_the_oldest_version_is_never_lowered(stage: Stage, hosted_vault: HostedVault) -> None:
    """A rotation that was cancelled and resumed after a later one."""
    first = look.rotate(stage, stage.production)
    sweep()
    Operation.objects.filter(pk=first.pk).update(state=Operation.State.CANCELLED)
    look.finished(look.rotate(stage, stage.production))
    assert look.key(hosted_vault, stage.production) == (3, 3)
    operations.resume(first, actor=stage.alice)
    look.finished(first)
    assert look.key(hosted_vault, stage.production) == (3, 3)
    assert Recipient.objects.get(pk=stage.production.pk).oldest_version == 3


# -- what is broken ----------------------------------------------------------------------------------------------------


def test_a_broken_wrapped_key_is_counted_and_the_rest_goes_on(stage: Stage, hosted_vault: HostedVault) -> None:
    ids = look.filled(hosted_vault, stage.production, 450)
    whole = look.entries(hosted_vault, stage.production)[ids[7]]
    add_to_document(hosted_vault.root, OF_ENVIRONMENTS, f"{stage.production.pk}/0", {ids[7]: "vault:v1:AAAA"})
    operation = look.finished(look.rotate(stage, stage.production, stage.test))
    assert (operation.state, operation.error_code, operation.failed) == (Operation.State.FAILED, "data_keys_broken", 1)
    assert look.versions(hosted_vault, stage.production) == {2: 449, 1: 1}
    assert look.key(hosted_vault, stage.production)[1] < 2, "what may be mended must stay openable"
    assert look.key(hosted_vault, stage.test) == (2, 2)
    assert DataKey.objects.get(pk=ids[7]).key_version == 1
    add_to_document(hosted_vault.root, OF_ENVIRONMENTS, f"{stage.production.pk}/0", {ids[7]: whole})
    operations.resume(operation, actor=stage.alice)
    operation = look.finished(operation)
    assert (operation.state, operation.failed) == (Operation.State.DONE, 0)
    assert look.versions(hosted_vault, stage.production) == {2: 450}
    assert look.key(hosted_vault, stage.production) == (2, 2), "resuming does not rotate again"
    assert [row["rewrapped"] for row in operation.details["recipients"] if row["name"] == "Production"] == [450]


def test_an_entry_that_is_no_text_breaks_nothing_else(stage: Stage, hosted_vault: HostedVault) -> None:
    look.filled(hosted_vault, stage.production, 3)
    entries: dict[str, Any] = {"6f9d4f0a-0000-4000-8000-000000000002": {"a": 1}, "no id": 7}
    add_to_document(hosted_vault.root, OF_ENVIRONMENTS, f"{stage.production.pk}/0", entries)
    operation = look.finished(look.rotate(stage, stage.production))
    assert (operation.error_code, operation.failed, part(operation).rewrapped) == ("data_keys_broken", 2, 3)


def test_a_key_that_is_gone_fails_and_the_others_are_rotated(stage: Stage, hosted_vault: HostedVault) -> None:
    hosted_vault.root.call("POST", f"intransit/keys/{stage.test.pk}/config", {"deletion_allowed": True})
    hosted_vault.root.call("DELETE", f"intransit/keys/{stage.test.pk}")
    operation = look.finished(look.rotate(stage, stage.test, stage.production))
    assert (operation.state, operation.error_code) == (Operation.State.FAILED, "data_keys_broken")
    assert look.key(hosted_vault, stage.production) == (2, 2)


@pytest.mark.parametrize("how", ["shredded", "deleted"])
def test_a_recipient_that_is_gone_meanwhile_is_skipped(stage: Stage, hosted_vault: HostedVault, how: str) -> None:
    operation = look.rotate(stage, stage.test, stage.production)
    if how == "shredded":
        Recipient.objects.filter(pk=stage.test.pk).update(shredded_at=timezone.now())
    else:
        atoms.delete_environment(stage.test, expected_revision=0, actor=stage.alice)
    look.finished(operation)
    assert look.key(hosted_vault, stage.test)[0] == 1
    assert look.key(hosted_vault, stage.production) == (2, 2)
    assert operation.details["skipped"] == 1


# -- asking ------------------------------------------------------------------------------------------------------------


def test_what_is_being_rotated_is_not_rotated_again(stage: Stage) -> None:
    operation = look.rotate(stage, stage.production)
    with pytest.raises(Refused, match="not finished"):
        look.rotate(stage, stage.test, stage.production)
    look.finished(operation)
    look.rotate(stage, stage.production)


def test_without_an_active_kms_nothing_is_rotated(stage: Stage) -> None:
    kms = KmsAccount.objects.get(account=stage.account)
    kms.state = KmsAccount.State.DISABLED
    kms.save()
    with pytest.raises(Refused) as refused:
        look.rotate(stage, stage.production)
    assert refused.value.code == "kms_inactive"
    assert not Operation.objects.filter(kind="vaults.rotate").exists()


def test_key_operations_of_an_account_run_one_after_the_other(stage: Stage) -> None:
    first, second = look.rotate(stage, stage.production), look.rotate(stage, stage.test)
    assert Operation.claim(first.pk) is not None
    assert run(second.pk) is False


def test_a_cancelled_rotation_leaves_everything_openable_and_goes_on_when_resumed(
    stage: Stage, hosted_vault: HostedVault
) -> None:
    look.filled(hosted_vault, stage.production, 5)
    operation = look.rotate(stage, stage.production, stage.test)
    sweep()
    operations.cancel(operation, actor=stage.alice)
    sweep()
    operation.refresh_from_db()
    assert operation.state == Operation.State.CANCELLED
    assert look.key(hosted_vault, stage.production)[1] < 2
    operations.resume(operation, actor=stage.alice)
    look.finished(operation)
    assert look.key(hosted_vault, stage.production) == (2, 2)


# -- by schedule -------------------------------------------------------------------------------------------------------


def test_a_schedule_rotates_everything_when_it_is_due(stage: Stage, hosted_vault: HostedVault) -> None:
    set_schedule(stage.account, 30, actor=stage.alice)
    rotate_scheduled()
    assert not Operation.objects.filter(kind="vaults.rotate").exists()
    KmsAccount.objects.update(rotated_at=timezone.now() - timedelta(days=30))
    rotate_scheduled()
    rotate_scheduled()
    operation = Operation.objects.get(kind="vaults.rotate")
    assert (operation.requested_by, operation.rotations.count()) == (None, 4)
    kms = KmsAccount.objects.get(account=stage.account)
    due = next_rotation(kms)
    assert due is not None
    assert (due - timezone.now()).days == 29
    assert kms.has_valid_signature()
    assert AuditEntry.objects.filter(action="ROTATE", actor_name="schedule").count() == 1


def test_the_sweep_command_asks_for_scheduled_rotations_too(stage: Stage, hosted_vault: HostedVault) -> None:
    from django.core.management import call_command

    set_schedule(stage.account, 90, actor=stage.alice)
    KmsAccount.objects.update(rotated_at=timezone.now() - timedelta(days=91))
    call_command("sweep", stdout=open("/dev/null", "w"))  # noqa: SIM115
    assert look.key(hosted_vault, stage.test)[0] == 2


def test_without_a_schedule_nothing_is_asked_for(stage: Stage) -> None:
    set_schedule(stage.account, 365, actor=stage.alice)
    set_schedule(stage.account, 0, actor=stage.alice)
    KmsAccount.objects.update(rotated_at=timezone.now() - timedelta(days=999))
    rotate_scheduled()
    assert not Operation.objects.filter(kind="vaults.rotate").exists()
    assert next_rotation(KmsAccount.objects.get(account=stage.account)) is None


# -- the identity ------------------------------------------------------------------------------------------------------


def test_the_rotator_rewraps_and_cannot_open(stage: Stage, hosted_vault: HostedVault) -> None:
    made = calls.new_data_key(look.recipient_of(stage.production))
    identity = read_credentials(hosted_vault.credentials / "worker").identities["rotator"]
    server = Vault(hosted_vault.address)
    rotator = server.with_token(server.login("platform", identity.role_id, identity.secret_id).token)
    name = str(stage.production.pk)
    assert rewrap_data_keys(client_of(rotator), OF_ENVIRONMENTS.transit, name, [made.wrapped])
    tries: list[Any] = [
        lambda: rotator.unwrap_data_key("intransit", name, made.wrapped),
        lambda: rotator.new_data_key("intransit", name),
        lambda: rotator.call("GET", f"intransit/export/encryption-key/{name}"),
        lambda: rotator.call("POST", f"intransit/keys/{name}/config", {"exportable": True}),
        lambda: rotator.call(
            "POST", f"intransit/keys/{name}/config", {"min_decryption_version": 1, "deletion_allowed": True}
        ),
        lambda: rotator.call("DELETE", f"intransit/keys/{name}"),
        lambda: rotator.call("DELETE", f"datakeys/metadata/{name}/0"),
    ]
    for attempt in tries:
        with pytest.raises(VaultRefused) as refused:
            attempt()
        assert refused.value.status == 403
