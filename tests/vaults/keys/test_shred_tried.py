"""What an attacker, a stale worker or bad luck tries with shredding, and does not get."""

from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import memory, signing
from accounts.models import AuditEntry, User
from atoms import actions as atoms
from extensions.models import ExtensionValue
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from operations import actions as operations
from operations.models import Operation
from operations.work import sweep
from tests.by_hand import add_to_document
from tests.conftest import HostedVault, Stage
from tests.kmsruntime.container import save
from tests.vaults.keys import rotations
from tests.vaults.keys.dying import grace_is_over
from tests.vaults.keys.rotations import recipient_of
from tests.vaults.keys.test_shred import (
    disabled,
    is_destroyed,
    key_exists,
    second_administrator,
    settle,
)
from vaults import kms_audit
from vaults.keys import shred
from vaults.keys.disable import activate_again, disable_kms, enable_kms
from vaults.logins import enrolment
from vaults.models import DataKey, Enrolment, KmsAccount, Recipient, ShredProof

__all__ = ["second_administrator"]
pytestmark = pytest.mark.django_db(transaction=True)


def over(stage: Stage) -> Operation:
    """The grace period is over and the shredding asked for."""
    disabled(stage)
    grace_is_over(stage.account)
    shred.ask_for_what_is_due()
    return Operation.objects.get(kind="vaults.shred")


def test_what_was_taken_back_is_not_resumed_and_its_approvals_are_gone(
    stage: Stage, hosted_vault: HostedVault, second_administrator: User
) -> None:
    disabled(stage)
    operation = shred.request_shred(stage.account, actor=stage.alice)
    shred.approve_shred(operation, actor=second_administrator)
    enable_kms(stage.account, actor=stage.alice)
    settle()
    disabled(stage)
    with pytest.raises(Refused):
        operations.resume(operation, actor=stage.alice)
    assert not operation.shred_approvals.exists()
    settle("shred")
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_one_that_failed_halfway_is_resumed_and_nothing_begins_anew_before(
    stage: Stage, hosted_vault: HostedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(stage, password="one")
    operation, real = over(stage), shred._shred_recipient

    def broken(operation: Operation, recipient: Any) -> None:
        if recipient.pk != stage.production.pk:
            raise VaultRefused("permission_denied", "The vault refused.", 403)
        real(operation, recipient)

    monkeypatch.setattr(shred, "_shred_recipient", broken)
    settle("shred")
    operation.refresh_from_db()
    assert operation.state == Operation.State.FAILED
    assert not ExtensionValue.objects.filter(form="sealed", data_key__lost_at=None).exists(), "begun is lost"
    with pytest.raises(Refused):
        activate_again(stage.account, actor=stage.alice)
    shown = stage.cast.client("alice").get(f"/accounts/{stage.account.code}/kms/").content.decode()
    assert "then resume it" in shown
    monkeypatch.setattr(shred, "_shred_recipient", real)
    operations.resume(operation, actor=stage.alice)
    settle("shred")
    assert is_destroyed(stage, hosted_vault)


def test_a_worker_that_slept_through_its_lease_destroys_no_new_key(
    stage: Stage, hosted_vault: HostedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(stage, password="one")
    operation, real, slept = over(stage), shred._shred_recipient, []

    def slow(running: Operation, recipient: Any) -> None:
        real(running, recipient)
        if not slept:
            slept.append(1)
            Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
            sweep(queues=["shred"])
            activate_again(stage.account, actor=stage.alice)
            sweep(queues=["interactive"])

    monkeypatch.setattr(shred, "_shred_recipient", slow)
    sweep(queues=["shred"])
    assert all(key_exists(hosted_vault, row) for row in stage.account.recipients.all())
    assert not stage.account.recipients.exclude(shredded_at=None).exists()


def put_back(earlier: dict[str, Any], days_later: int) -> None:
    """Write a row as it was, let the days pass and have shredding look: it sees that the row is not of today."""
    later = timezone.now() + timedelta(days=days_later)
    with patch("django.utils.timezone.now", lambda: later):
        memory.forget()  # a shred worker that saw nothing of what came after
        KmsAccount.objects.update(**earlier)
        shred.ask_for_what_is_due()
        sweep(queues=["shred"])
    assert Operation.objects.get(kind="vaults.shred").error_code == "record_forged"


def test_a_genuine_row_of_an_earlier_day_destroys_nothing(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="kept")
    disabled(stage)
    earlier = KmsAccount.objects.values("state", "since", "ends_at", "shredded_at", "generation", "signature").get(
        account=stage.account
    )
    enable_kms(stage.account, actor=stage.alice)
    settle()
    put_back(earlier, days_later=60)
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_a_forged_row_of_one_account_stops_nobody_elses(stage: Stage, hosted_vault: HostedVault) -> None:
    from vaults.keys.provision import activate_kms

    activate_kms(stage.cast.other, actor="tests")
    settle()
    disabled(stage)
    KmsAccount.objects.filter(account=stage.account).update(ends_at=timezone.now() - timedelta(days=1))
    disable_kms(stage.cast.other, days=7, actor=stage.cast.charlie)
    grace_is_over(stage.cast.other)
    shred.ask_for_what_is_due()
    assert Operation.objects.get(kind="vaults.shred").account == stage.cast.other


def test_what_somebody_put_into_the_documents_is_no_proof(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    junk = {"00000000-0000-4000-8000-000000000000": "vault:v1:bm90aGluZw==", "!no id": "vault:v1:x"}
    add_to_document(hosted_vault.root, OF_ENVIRONMENTS, f"{stage.production.pk}/0", junk)
    over(stage)
    settle("shred")
    proof = ShredProof.objects.get(recipient=stage.production.pk)
    assert (proof.before, proof.after, proof.data_keys) == (200, 400, 3)
    assert DataKey.objects.filter(pk=proof.data_key).exists()


def test_an_enrolment_that_met_the_disabling_goes_on_when_it_is_enabled(stage: Stage) -> None:
    token = atoms.create_installer_token(stage.atom, minutes=30, actor=stage.alice)[1]
    begun = enrolment.begin(token, sync_hash=b"a" * 32, settings_hash=b"b" * 32, host_name="h", version="1")
    disable_kms(stage.account, days=7, actor=stage.alice)
    settle()
    enable_kms(stage.account, actor=stage.alice)
    settle()
    begun.refresh_from_db()
    assert begun.state == Enrolment.State.READY


def test_a_shorter_grace_period_of_an_earlier_day_ends_nothing(stage: Stage, hosted_vault: HostedVault) -> None:
    disable_kms(stage.account, days=7, actor=stage.alice)
    earlier = KmsAccount.objects.values("state", "since", "ends_at", "shredded_at", "generation", "signature").get(
        account=stage.account
    )
    enable_kms(stage.account, actor=stage.alice)
    disable_kms(stage.account, days=90, actor=stage.alice)
    settle()
    put_back(earlier, days_later=8)
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_a_rotation_under_way_begins_anew_with_the_new_keys(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    rotation = rotations.rotate(stage, stage.production)
    sweep(queues=["bulk"])
    over(stage)
    Operation.objects.filter(pk=rotation.pk).update(run_after=timezone.now() + timedelta(minutes=9))
    sweep(queues=["shred"])
    activate_again(stage.account, actor=stage.alice)
    sweep(queues=["interactive"])
    save(stage, password="two")
    assert rotations.finished(rotation).state == Operation.State.DONE
    assert rotations.key(hosted_vault, stage.production) == (2, 2)


# -- what won on commit b5f6031 ---------------------------------------------------------------------------------------------


def test_a_neighbours_keys_are_not_shredded_with_ones_own(stage: Stage, hosted_vault: HostedVault) -> None:
    """His own account's two Administrators agreed; the row of the neighbour's key said that it was theirs."""
    from vaults.keys.provision import activate_kms

    activate_kms(stage.cast.other, actor="tests")
    save(stage, password="kept")
    settle()
    Recipient.objects.filter(pk=stage.production.pk).update(account=stage.cast.other)
    disable_kms(stage.cast.other, days=7, actor=stage.cast.charlie)
    settle()
    grace_is_over(stage.cast.other)
    shred.ask_for_what_is_due()
    sweep(queues=["shred"])
    assert key_exists(hosted_vault, recipient_of(stage.production))
    assert hosted_vault.root.status_of("GET", f"auth/environments/role/{stage.production.pk}")[0] == 200, "nor its role"
    assert Operation.objects.get(kind="vaults.shred").error_code == "record_forged"


# -- what won on commit 920a2d3 ---------------------------------------------------------------------------------------------


def test_a_neighbours_keys_are_not_shredded_with_the_workers_key_either(
    stage: Stage, hosted_vault: HostedVault
) -> None:
    """As before, and the worker's signing key made the row genuine: the vault's ledger says whose the environment is."""
    from vaults.keys.provision import activate_kms

    activate_kms(stage.cast.other, actor="tests")
    save(stage, password="kept")
    settle()
    moved = recipient_of(stage.production)
    moved.account = stage.cast.other
    moved.save()
    disable_kms(stage.cast.other, days=7, actor=stage.cast.charlie)
    settle()
    grace_is_over(stage.cast.other)
    shred.ask_for_what_is_due()
    sweep(queues=["shred"])
    assert key_exists(hosted_vault, moved)
    assert hosted_vault.root.status_of("GET", f"auth/environments/role/{stage.production.pk}")[0] == 200, "nor its role"
    assert Operation.objects.get(kind="vaults.shred").error_code == "recipient_foreign"


def test_the_workers_own_entry_does_not_begin_a_shredding(stage: Stage, hosted_vault: HostedVault) -> None:
    """With the worker's signing key, the row key and the database: an active account's row said "shredded", and an entry of the
    worker's that it was asked for again."""
    save(stage, password="kept")
    kms = KmsAccount.objects.get(account=stage.account)
    kms.state = KmsAccount.State.SHREDDED
    kms.save()
    with transaction.atomic():
        entry = kms_audit.record(stage.account, "SHRED_AGAIN", "-", actor="operator")
        entry.signature = signing.sign("worker", entry.signed_bytes())
        entry.save()
        shred._request(stage.account, None, None)
    settle("shred")
    assert Operation.objects.get(kind="vaults.shred").error_code == "record_forged"
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_a_shredding_that_was_done_is_not_done_again(stage: Stage, hosted_vault: HostedVault) -> None:
    """The rows of the account's earlier life were put back: no approval, no grace period, no entry in the audit log."""
    save(stage, password="one")
    over(stage)
    settle("shred")
    earlier = KmsAccount.objects.values("state", "since", "ends_at", "shredded_at", "generation", "signature").get(
        account=stage.account
    )
    done = Operation.objects.get(kind="vaults.shred")
    activate_again(stage.account, actor=stage.alice)
    settle()
    save(stage, password="of the new life")
    assert key_exists(hosted_vault, recipient_of(stage.production))
    KmsAccount.objects.update(**earlier)
    stage.account.recipients.update(shredded_at=None)
    Operation.objects.filter(pk=done.pk).update(state="pending", lease=None, lease_until=None, finished_at=None)
    sweep(queues=["shred"])
    done.refresh_from_db()
    assert done.error_code == "record_forged"
    assert key_exists(hosted_vault, recipient_of(stage.production))


def test_a_row_that_says_disabled_unsigned_takes_no_role(stage: Stage, hosted_vault: HostedVault) -> None:
    disable_kms(stage.account, days=7, actor=stage.alice)
    settle()
    asked = Operation.objects.get(kind="vaults.disable")
    enable_kms(stage.account, actor=stage.alice)
    settle()
    KmsAccount.objects.update(state="disabled")
    Operation.objects.filter(pk=asked.pk).update(
        state="pending", lease=None, lease_until=None, finished_at=None, done=0
    )
    sweep()
    assert hosted_vault.root.status_of("GET", f"auth/environments/role/{stage.production.pk}")[0] == 200


def test_a_changed_entry_since_the_disabling_ends_no_account(stage: Stage, hosted_vault: HostedVault) -> None:
    """On commit 9729f23 it did: the entry that it was enabled again was spelt otherwise for a few seconds."""
    disable_kms(stage.account, days=7, actor=stage.alice)
    earlier = KmsAccount.objects.values("state", "since", "ends_at", "shredded_at", "generation", "signature").get(
        account=stage.account
    )
    enable_kms(stage.account, actor=stage.alice)
    settle()
    AuditEntry.objects.filter(account=stage.account, action="ENABLE").update(action="ENABLED")
    put_back(earlier, days_later=8)
    assert key_exists(hosted_vault, recipient_of(stage.production))
