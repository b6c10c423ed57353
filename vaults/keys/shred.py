"""Shredding: the keys of an account destroyed, with a proof for each and a certificate for all.

Done by the shred worker alone. It checks itself what allows it: the end of the grace period, or the word of two
administrators; the portal's signature on both. Once it has begun there is no way back.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from accounts.access import genuine_roles
from accounts.models import Account, Membership, User
from accounts.privileges import Privilege
from accounts.rows import WEB, is_uuid, lock_in_order
from kmscore.refused import Refused
from operations import actions as operations
from operations.models import Operation
from operations.queue import publish_on_commit
from operations.work import Cancelled, Failed, LeaseLost, ResumeAt, periodic
from vaults import kms_audit
from vaults.hosted import calls, ledger
from vaults.keys import disable
from vaults.keys.certificate import certify
from vaults.keys.deeds import deeds, last_deed
from vaults.keys.disable import SHRED
from vaults.keys.losses import mark_lost
from vaults.models import DataKey, KmsAccount, Recipient, ShredApproval, ShredCertificate, ShredProof
from vaults.vault_operation import KEYS_GROUP, vault_operation

log = structlog.get_logger()
APPROVAL_LASTS = timedelta(hours=24)
SAMPLES = 20  # data keys of a document that are tried, should the first not live
NOTHING_WRAPPED = 0  # stands in a proof for a status: there was no wrapped data key to try


# -- asking -------------------------------------------------------------------------------------------------------------


@transaction.atomic
def request_shred(account: Account, *, actor: User) -> Operation:
    """Ask for the keys to be destroyed before the grace period ends; a second administrator has to approve it.

    Raises Refused, RowTampered.
    """
    kms = disable.locked(account)
    if kms.state != KmsAccount.State.DISABLED:
        raise Refused(
            "not_disabled", "Disable the Key Management Service first: that shows whether anybody still needs it."
        )
    if account.operations.unfinished().filter(kind=SHRED).exists():
        raise Refused("asked_already", "Shredding was asked for already.")
    operation = _request(account, actor, kms.ends_at)
    _approve(operation, actor)
    kms_audit.record(
        account, "SHRED_ASKED", "Shredding at once was asked for; a second administrator has to approve", actor=actor
    )
    return operation


@transaction.atomic
def approve_shred(operation: Operation, *, actor: User) -> None:
    """The second administrator's word. Raises Refused."""
    locked = operations.locked(operation)
    if locked.is_finished or locked.kind != SHRED:
        raise Refused("nothing_to_approve", "There is nothing to approve any more.")
    if locked.shred_approvals.filter(user=actor).exists():
        raise Refused("approved_already", "You have asked for it: somebody else has to approve.")
    _approve(locked, actor)
    Operation.objects.filter(pk=locked.pk).update(run_after=timezone.now())
    kms_audit.record(locked.account, "SHRED_APPROVED", "Shredding at once was approved", actor=actor)
    publish_on_commit(locked)


@transaction.atomic
def withdraw_shred(account: Account, *, actor: User) -> None:
    """Take the request back, as long as it has not begun; the grace period goes on. Raises Refused, RowTampered."""
    if disable.locked(account).state != KmsAccount.State.DISABLED:
        raise Refused("begun", "It has begun; there is no way back.")
    disable.withdraw(account)
    # Said in any case: it is what decides, and what was asked for may be hidden until later.
    kms_audit.record(account, "SHRED_WITHDRAWN", "The request for shredding at once was taken back", actor=actor)


def _request(account: Account, actor: User | None, run_after: datetime | None) -> Operation:
    recipients = account.recipients.count()
    return operations.request(
        SHRED,
        account=account,
        subject_id=account.pk,
        title=f"Shred the keys of {recipients} environments and Atoms",
        actor=actor,
        total=max(recipients, 1),
        exclusive_group=KEYS_GROUP,
        run_after=run_after,
    )


def _approve(operation: Operation, actor: User) -> None:
    ShredApproval(operation=operation, account=operation.account, user=actor).save(force_insert=True)


@periodic(60, Operation.Queue.SHRED)
def ask_for_what_is_due() -> None:
    """Ask for the shredding of every account whose grace period is over. The account is locked: of two at a time one asks."""
    late = KmsAccount.objects.filter(state=KmsAccount.State.DISABLED, ends_at__lte=timezone.now())
    asked = Operation.objects.unfinished().filter(kind=SHRED).values("account")
    for kms in late.exclude(account__in=asked).select_related("account"):
        if not kms.has_valid_signature():
            log.error("kms_row_forged", account=kms.account.code)
            continue
        with transaction.atomic():
            disable.locked(kms.account)
            if not kms.account.operations.unfinished().filter(kind=SHRED).exists():
                _request(kms.account, None, None)
                kms_audit.record(
                    kms.account, "SHRED_DUE", "The grace period is over: the keys are shredded", actor="portal"
                )


@transaction.atomic
def shred_again(account: Account) -> Operation:
    """After a vault's restore: what was shredded before and is there again is destroyed again. Raises Refused, RowTampered."""
    if disable.locked(account).state != KmsAccount.State.SHREDDED:
        raise Refused("not_shredded", "The keys of this account are not shredded.")
    lock_in_order(account.recipients.all())
    account.recipients.update(shredded_at=None)
    kms_audit.record(
        account, "SHRED_AGAIN", "A restored vault has the shredded keys again; they are shredded", actor="operator"
    )
    return _request(account, None, None)


# -- doing --------------------------------------------------------------------------------------------------------------


@vault_operation(SHRED, queue=Operation.Queue.SHRED)
def shred(operation: Operation) -> None:
    """Destroy every key and document of the account, one recipient after the other, each with its proof."""
    _begin(operation)
    recipients = list(operation.account.recipients.order_by("pk"))
    for done, recipient in enumerate(recipients):
        operation.progress(done, len(recipients))
        # Not what the row says, which whoever writes there could say before: what the vault says.
        if recipient.shredded_at is None or calls.has_keys(recipient.verified()):
            _still_ours(operation)
            _shred_recipient(operation, recipient.verified())
    mark_lost(
        DataKey.objects.filter(recipient__account=operation.account), DataKey.LostBecause.SHREDDED
    )  # shredded again
    _refuse_hidden(operation.account, recipients)
    certify(operation)


def _refuse_hidden(account: Account, recipients: list[Recipient]) -> None:
    """Nobody certifies what was not destroyed: the vault's ledger says whose keys there are. Raises Failed, the vault's errors."""
    named = {str(recipient.pk) for recipient in recipients}
    hidden = ledger.recipients_besides(named, "shredder", account.pk)
    if hidden:
        log.error("recipients_hidden", account=str(account.pk), recipients=sorted(hidden))
        sentence = (
            f"The vault has keys of {len(hidden)} environments and Atoms that no row names: put those rows back first."
        )
        raise Failed("recipients_hidden", sentence)


def _still_ours(operation: Operation) -> None:
    """Before each thing that cannot be undone: a worker that slept through its lease must not meet new keys.

    Raises LeaseLost.
    """
    shredding = KmsAccount.objects.filter(account=operation.account, state=KmsAccount.State.SHREDDED).exists()
    if not shredding or not operation.note():
        raise LeaseLost


def _begin(operation: Operation) -> None:
    """Check what allows it, and close the way back. Raises ResumeAt, Failed, RowTampered."""
    with transaction.atomic():
        kms = disable.locked(operation.account)
        if kms.state == KmsAccount.State.SHREDDED:
            _check_begun(operation)
            return
        if operation.is_cancel_asked():
            raise Cancelled
        if kms.state != KmsAccount.State.DISABLED or kms.ends_at is None:
            raise Failed("not_disabled", "The Key Management Service was enabled again; nothing was destroyed.")
        by = _approved_by(operation)
        if kms.ends_at > timezone.now() and len(by) < 2:
            sentence = f"Waits for a second administrator's approval, or for {kms.ends_at:%d %B %Y, %H:%M} UTC."
            raise ResumeAt(kms.ends_at, "approval_missing", sentence)
        if not _was_disabled_until(operation.account, kms.ends_at):
            sentence = "The audit log does not say that it was disabled like this; an operator has to look at the rows."
            raise Failed("record_forged", sentence)
        facts = {"disabled_at": kms.since.isoformat(), "approved_by": by, "operation": str(operation.pk)}
        disable.set_state(kms, KmsAccount.State.SHREDDED, operation.requested_by)
        if not operation.note(**facts):
            raise LeaseLost
        mark_lost(DataKey.objects.filter(recipient__account=operation.account), DataKey.LostBecause.SHREDDED)
        kms_audit.record(
            operation.account, "SHRED", "The keys of this account are being destroyed", actor="shred worker", **facts
        )


def _check_begun(operation: Operation) -> None:
    """It was begun by this operation, whose worker died, or asked for again after a restore; and nothing came since then.

    A row that says "shredded", of an earlier life of the account, destroys none of its new keys. Raises Failed.
    """
    entry = last_deed(operation.account, "ACTIVATE", "DISABLE", "ENABLE", "SHRED", "SHRED_AGAIN", "SHREDDED")
    asked_again = entry is not None and entry.action == "SHRED_AGAIN" and entry.signed_by(for_good=False) in WEB
    whose = (*WEB, *ShredCertificate.SIGNERS)  # not the worker's word, which destroys nothing by itself
    begun = entry is not None and entry.action in ("SHRED", "SHREDDED") and entry.signed_by() in whose
    ours = begun and entry is not None and entry.properties.get("operation") == str(operation.pk)
    if not (asked_again or ours):
        sentence = "The audit log does not say that its keys are being shredded; an operator has to look at the rows."
        raise Failed("record_forged", sentence)


def _was_disabled_until(account: Account, ends_at: datetime) -> bool:
    """Whether the audit log says that disabling came last, with this very grace period.

    A genuine row of an earlier day, put back into the database, is not enough to destroy anything.
    """
    entry = last_deed(account, "ACTIVATE", "DISABLE", "ENABLE")
    if entry is None or entry.signed_by(for_good=False) not in WEB:  # an ended key may be a stolen one
        return False
    return entry.action == "DISABLE" and entry.properties.get("ends_at") == str(ends_at)


def _approved_by(operation: Operation) -> list[str]:
    """Administrators whose genuine, fresh word there is, each once, and stands in the audit log. Nothing else counts."""
    found: dict[str, str] = {}
    said = _words_given(operation.account)
    for row in operation.shred_approvals.select_related("user"):
        fresh = timezone.now() - row.given_at < APPROVAL_LASTS
        told = row.user_id in said and row.account_id == operation.account_id
        if row.has_valid_signature() and fresh and told and row.user.is_active and row.user.has_valid_signature():
            membership = Membership.objects.filter(account=operation.account_id, user=row.user).first()
            if membership is not None and _may_shred(membership, operation.account_id, row.user_id):
                found[str(row.user_id)] = row.user.email
    return sorted(found.values())


def _words_given(account: Account) -> set[uuid.UUID]:
    """Who asked for shredding at once or approved it, by the audit log, since that was last taken back."""
    found = set()
    for entry in deeds(account):
        if entry.action in ("SHRED_WITHDRAWN", "DISABLE", "ENABLE", "ACTIVATE"):
            break
        if entry.action in ("SHRED_ASKED", "SHRED_APPROVED") and entry.actor_id is not None:
            found |= {entry.actor_id} if entry.signed_by(for_good=False) in WEB else set()
    return found


def _may_shred(membership: Membership, account_id: uuid.UUID, user_id: uuid.UUID) -> bool:
    if (membership.account_id, membership.user_id) != (account_id, user_id):
        return False
    return any(Privilege.ACCOUNT_ADMIN in role.privilege_set() for role in genuine_roles(membership))


def _shred_recipient(operation: Operation, recipient: Recipient) -> None:
    """Prove that its key lives, delete it, prove that it does not, and only then delete the documents that proved it."""
    ledger.refuse_foreign("shredder", recipient.mounts, recipient.pk, operation.account_id)
    proof = _proof_of(operation, recipient)
    documents = range(recipient.next_document() + 1)
    if proof.before is None:
        proof.data_key, proof.before, proof.data_keys = _sample(recipient, documents)
        proof.save()
    _still_ours(operation)
    calls.delete_keys(recipient)
    if proof.after is None:
        wrapped = _wrapped(recipient, documents, str(proof.data_key)) if proof.data_key else ""
        proof.after = calls.rewrap_status(recipient, wrapped) if wrapped else NOTHING_WRAPPED
        if proof.after and proof.after < 400:
            raise Failed("key_alive", "The vault still opens what a deleted key wrapped; nothing more was destroyed.")
        proof.save()
    _still_ours(operation)
    for document in documents:
        calls.delete_document(recipient, document)
    now = timezone.now()
    with transaction.atomic():
        proof.shredded_at = now
        proof.save(update_fields=["shredded_at"])
        Recipient.objects.filter(pk=recipient.pk).update(shredded_at=now)


def _proof_of(operation: Operation, recipient: Recipient) -> ShredProof:
    """As it was begun before a worker died; one that the shred worker did not write is none."""
    rows = ShredProof.objects.filter(operation=operation, recipient=recipient)
    found = rows.first()
    if found is not None and found.has_valid_signature():
        return found
    rows.delete()
    made = ShredProof(operation=operation, recipient=recipient)
    made.save(force_insert=True)
    return made


def _sample(recipient: Recipient, documents: range) -> tuple[Any, int, int]:
    """A data key of its documents, how the vault answers to a rewrap of it, and how many there are.

    Of the data keys that the portal made, one that lives: somebody may have put others into the documents. The documents keep
    it until the end.
    """
    found: tuple[Any, int] = (None, NOTHING_WRAPPED)
    count = 0
    for document in documents:
        entries = calls.read_document(recipient, document) or {}
        count += len(entries)
        if found[1] != 200 and entries:
            ids = [name for name in entries if is_uuid(name)]
            made = recipient.data_keys.filter(pk__in=ids).values_list("pk", flat=True)[:SAMPLES]
            for data_key in made:
                wrapped = entries.get(str(data_key))
                if wrapped and found[1] != 200:
                    found = data_key, calls.rewrap_status(recipient, wrapped)
    return *found, count


def _wrapped(recipient: Recipient, documents: range, data_key: str) -> str:
    for document in documents:
        entries = calls.read_document(recipient, document) or {}
        if data_key in entries:
            return entries[data_key]
    return ""
