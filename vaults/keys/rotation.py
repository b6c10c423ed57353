"""Rotating in-transit keys: who may ask for it and when. What a worker does then is in vaults/keys/rotation_worker.py."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account, User
from kmscore.refused import Refused
from operations import actions as operations
from operations.models import Operation
from operations.work import periodic
from vaults import kms_audit
from vaults.models import DataKey, KmsAccount, Recipient, RecipientRotation
from vaults.vault_operation import KEYS_GROUP

KIND = "vaults.rotate"
NAMES_KEPT = 200  # in an audit row or a receipt


@transaction.atomic
def request_rotation(account: Account, recipients: Sequence[Recipient], *, actor: User | None) -> Operation:
    """Ask for a new version of these recipients' in-transit keys. actor None: the account's schedule.

    Raises Refused: kms_inactive, nothing_to_rotate, rotation_unfinished.
    """
    # Two requests at once: the second one finds the first.
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    KmsAccount.refuse_inactive(account)
    ids = [recipient.pk for recipient in recipients]
    if not ids:
        raise Refused("nothing_to_rotate", "The hosted vault has made no keys yet that could be rotated.")
    if account.operations.unfinished().filter(kind=KIND, rotations__recipient__in=ids).exists():
        raise Refused("rotation_unfinished", "A rotation of these keys is not finished yet; see Operations.")
    chosen = Recipient.objects.filter(pk__in=ids)
    names = chosen.names()
    one = names.get(ids[0], "") if len(ids) == 1 else f"{len(ids)} environments and Atoms"
    operation = operations.request(
        KIND,
        account=account,
        subject_id=ids[0] if len(ids) == 1 else account.pk,
        environment_id=recipients[0].environment_id if len(ids) == 1 else None,
        title=f"Rotate the in-transit keys of {one}",
        actor=actor,
        total=max(DataKey.objects.stored().filter(recipient__in=ids).count(), 1),
        exclusive_group=KEYS_GROUP,
    )
    RecipientRotation.objects.bulk_create(
        (RecipientRotation(operation=operation, recipient_id=pk) for pk in ids), batch_size=500
    )
    message = f"Rotation asked for: the in-transit keys of {one}"
    kept = [names.get(pk, "") for pk in ids[:NAMES_KEPT]]
    kms_audit.record(operation, "ROTATE", message, actor=actor or "schedule", count=len(ids), names=kept)
    return operation


@transaction.atomic
def request_rotation_of_all(account: Account, *, actor: User | None) -> Operation:
    """Ask for a new version of all of an account's in-transit keys; the schedule counts from now. Raises Refused."""
    KmsAccount.objects.select_for_update(no_key=True).filter(account=account).first()
    operation = request_rotation(account, list(account.recipients.present()), actor=actor)
    KmsAccount.objects.filter(account=account).update(rotated_at=timezone.now())
    return operation


# -- by schedule -------------------------------------------------------------------------------------------------------


@transaction.atomic
def set_schedule(account: Account, days: int, *, actor: User) -> None:
    """Rotate all of an account's in-transit keys every so many days, from now on; 0 turns it off.

    Raises Refused (kms_inactive), RowTampered.
    """
    kms = KmsAccount.objects.select_for_update(no_key=True).filter(account=account).first()
    if kms is None or kms.verified().state != KmsAccount.State.ACTIVE:
        raise Refused("kms_inactive", "The Key Management Service of this account is not active.")
    if kms.rotate_every == days:
        return
    kms.rotate_every = KmsAccount.Rotation(days)
    kms.rotated_at = timezone.now() if days else kms.rotated_at
    kms.save(update_fields=["rotate_every", "rotated_at"])
    message = f"Scheduled rotation of in-transit keys: {kms.get_rotate_every_display().lower()}"
    kms_audit.record(account, "EDIT", message, actor=actor, rotate_every=days)


def next_rotation(kms: KmsAccount) -> datetime | None:
    """When the schedule asks for the next one; None without a schedule."""
    if not kms.rotate_every or kms.rotated_at is None:
        return None
    return kms.rotated_at + timedelta(days=kms.rotate_every)


@periodic(3600)
def rotate_scheduled() -> None:
    """Ask for the rotations that are due. One that cannot be asked for now is asked for the next time."""
    now, due = timezone.now(), Q()
    for days in KmsAccount.Rotation.values:
        if days:
            due |= Q(rotate_every=days, rotated_at__lte=now - timedelta(days=days))
    for kms in KmsAccount.objects.filter(due, state=KmsAccount.State.ACTIVE).select_related("account"):
        try:
            request_rotation_of_all(kms.account, actor=None)  # twice at once: the second one is refused
        except Refused:
            continue
