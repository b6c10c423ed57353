"""Rotating in-transit keys: who may ask for it and when. What a worker does then is in vaults/keys/rotation_worker.py."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from celery import shared_task
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.models import Account, User
from operations import actions as operations
from operations.models import Operation, OperationQuerySet
from vaults.models import DataKey, KmsAccount, Recipient, RecipientRotation

KIND = "vaults.rotate"
LANE = "keys"  # what changes an account's keys is done one after the other
NAMES_KEPT = 200  # in an audit row or a receipt


class RotationRefused(Exception):
    """It cannot be asked for now; `code` is for machines, the text says why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


def recipients_of(account: Account) -> QuerySet[Recipient]:
    """Every environment and Atom of an account that has keys in the hosted vault."""
    there = Q(pk__in=account.environments.values("pk")) | Q(pk__in=account.atoms.values("pk"))
    return Recipient.objects.filter(there, account=account, shredded_at=None).order_by("pk")


def data_keys_of(recipients: QuerySet[Recipient]) -> QuerySet[DataKey]:
    """The data keys of recipients that are in the vault's documents."""
    return DataKey.objects.filter(recipient__in=recipients, retired_at=None, lost_at=None)


def names_of(account: Account) -> dict[object, str]:
    """The names of an account's environments and Atoms by id: two queries."""
    return {
        **dict(account.environments.values_list("pk", "name")),
        **dict(account.atoms.values_list("pk", "name")),
    }


@transaction.atomic
def request_rotation(account: Account, recipients: Sequence[Recipient], *, actor: User | None) -> Operation:
    """Ask for a new version of these recipients' in-transit keys. actor None: the account's schedule.

    Raises RotationRefused: kms_inactive, nothing_to_rotate, rotation_unfinished.
    """
    account = Account.objects.select_for_update().get(
        pk=account.pk
    )  # two requests at once: the second one finds the first
    if not KmsAccount.is_active(account):
        raise RotationRefused("kms_inactive", "The Key Management Service of this account is not active.")
    ids = [recipient.pk for recipient in recipients]
    if not ids:
        raise RotationRefused("nothing_to_rotate", "The hosted vault has made no keys yet that could be rotated.")
    if unfinished_rotations(account).filter(rotations__recipient__in=ids).exists():
        raise RotationRefused("rotation_unfinished", "A rotation of these keys is not finished yet; see Operations.")
    names = names_of(account)
    one = names.get(ids[0], "") if len(ids) == 1 else f"{len(ids)} environments and Atoms"
    operation = operations.request(
        KIND,
        account=account,
        subject_id=ids[0] if len(ids) == 1 else account.pk,
        title=f"Rotate the in-transit keys of {one}",
        actor=actor,
        queue=Operation.Queue.BULK,
        total=max(data_keys_of(Recipient.objects.filter(pk__in=ids)).count(), 1),
        lane=LANE,
    )
    RecipientRotation.objects.bulk_create(
        (RecipientRotation(operation=operation, recipient_id=pk) for pk in ids), batch_size=500
    )
    audit.record(
        account,
        actor=actor or "schedule",
        type="as.atom.kms",
        action="ROTATE",
        subject_id=operation.subject_id,
        message=f"Rotation asked for: the in-transit keys of {one}",
        properties={
            "operation": str(operation.pk),
            "count": len(ids),
            "names": [names.get(pk, "") for pk in ids[:NAMES_KEPT]],
        },
    )
    return operation


@transaction.atomic
def request_rotation_of_all(account: Account, *, actor: User | None) -> Operation:
    """Ask for a new version of all of an account's in-transit keys; the schedule counts from now. Raises RotationRefused."""
    operation = request_rotation(account, list(recipients_of(account)), actor=actor)
    KmsAccount.objects.filter(account=account).update(rotated_at=timezone.now())
    return operation


def unfinished_rotations(account: Account) -> OperationQuerySet:
    """Rotations that are under way, waiting ones included."""
    return Operation.objects.filter(account=account, kind=KIND).unfinished()


# -- by schedule -------------------------------------------------------------------------------------------------------


@transaction.atomic
def set_schedule(account: Account, days: int, *, actor: User) -> None:
    """Rotate all of an account's in-transit keys every so many days, from now on; 0 turns it off.

    Raises RotationRefused (kms_inactive), RowForged.
    """
    kms = KmsAccount.objects.select_for_update().filter(account=account).first()
    if kms is None or kms.verified().state != KmsAccount.State.ACTIVE:
        raise RotationRefused("kms_inactive", "The Key Management Service of this account is not active.")
    if kms.rotate_every == days:
        return
    kms.rotate_every = KmsAccount.Rotation(days)
    kms.rotated_at = timezone.now() if days else kms.rotated_at
    kms.save(update_fields=["rotate_every", "rotated_at"])
    audit.record(
        account,
        actor=actor,
        type="as.atom.kms",
        action="EDIT",
        subject_id=account.pk,
        message=f"Scheduled rotation of in-transit keys: {kms.get_rotate_every_display().lower()}",
        properties={"rotate_every": days},
    )


def next_rotation(kms: KmsAccount) -> datetime | None:
    """When the schedule asks for the next one; None without a schedule."""
    if not kms.rotate_every or kms.rotated_at is None:
        return None
    return kms.rotated_at + timedelta(days=kms.rotate_every)


@shared_task(name="vaults.rotate_scheduled")
@operations.chore
def rotate_scheduled() -> None:
    """Ask for the rotations that are due. One that cannot be asked for now is asked for the next time."""
    now, due = timezone.now(), Q()
    for days in KmsAccount.Rotation.values:
        if days:
            due |= Q(rotate_every=days, rotated_at__lte=now - timedelta(days=days))
    for kms in KmsAccount.objects.filter(due, state=KmsAccount.State.ACTIVE).select_related("account"):
        try:
            request_rotation_of_all(kms.account, actor=None)  # twice at once: the second one is refused
        except RotationRefused:
            continue
