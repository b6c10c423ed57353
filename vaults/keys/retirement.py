"""Data keys that nothing is sealed with any more leave the vault's documents, once no backup can need them."""

import uuid
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from accounts.models import Account
from atoms.models import Node
from kmscore.vaultclient.client import BATCH_ITEMS
from kmscore.wording import plural
from operations import actions as operations
from operations.models import Operation
from operations.work import LeaseLost, checkpoint, periodic
from vaults import kms_audit
from vaults.hosted import calls
from vaults.models import DataKey, Recipient
from vaults.vault_operation import KEYS_GROUP, vault_operation

KIND = "vaults.retire_keys"


def unused() -> QuerySet[DataKey]:
    """Data keys in the vault that no row of any table refers to; a table that comes later is asked by itself."""
    keys = DataKey.objects.filter(retired_at=None, lost_at=None)
    for relation in DataKey._meta.get_fields(include_hidden=True):  # a related_name of "+" hides most of them
        if relation.auto_created and not relation.concrete and relation.related_model is not None:
            rows = relation.related_model._base_manager.filter(**{relation.field.name: OuterRef("pk")})  # type: ignore[union-attr]
            keys = keys.filter(~Exists(rows))
    return keys


def due() -> QuerySet[DataKey]:
    """Unused for longer than any backup is kept, and now.

    Of an Atom only when each of its containers reports the present settings: a switch that is pending needs the file before.
    """
    behind = Node.objects.filter(state=Node.State.ENROLLED, atom__kms_settings__isnull=False).filter(
        Q(report=None) | Q(report__settings_revision__lt=F("atom__kms_settings__revision"))
    )
    long_ago = timezone.now() - timedelta(days=settings.BACKUP_RETENTION_DAYS)
    keys = unused().filter(unused_since__lte=long_ago, recipient__shredded_at=None)
    return keys.exclude(recipient__kind=Recipient.Kind.ATOM, recipient__in=behind.values("atom"))


@periodic(86400)
def retire_unused() -> None:
    """Note which data keys are unused and since when, and ask for those to be retired whose time has come.

    Four statements and a request for each account that has any, however many data keys there are. Of two at a time one asks.
    """
    unnoticed = unused()
    DataKey.objects.exclude(unused_since=None).filter(retired_at=None).exclude(pk__in=unnoticed.values("pk")).update(
        unused_since=None
    )
    unnoticed.filter(unused_since=None).update(unused_since=timezone.now())
    counts = due().order_by().values_list("recipient__account").annotate(Count("pk"))
    for account_id, count in counts:
        _request(account_id, count)


@transaction.atomic
def _request(account_id: uuid.UUID, count: int) -> None:
    account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
    if Operation.objects.filter(account=account, kind=KIND).unfinished().exists():
        return
    operation = operations.request(
        KIND,
        account=account,
        subject_id=account.pk,
        title=f"Retire {plural(count, 'unused data key')}",
        actor=None,
        total=count,
        exclusive_group=KEYS_GROUP,
    )
    message = f"Retiring asked for: {plural(count, 'data key')} nothing has used for "
    message += f"{settings.BACKUP_RETENTION_DAYS} days"
    kms_audit.record(operation, "RETIRE", message, actor="portal", count=count)


@vault_operation(KIND, queue=Operation.Queue.BULK, cancellable=True)
def retire_keys(operation: Operation) -> None:
    """Take them out of their documents, a batch at a time; each is looked at once more right before."""
    keys = DataKey.objects.filter(recipient__account=operation.account_id)
    retired = keys.filter(retired_at__gte=operation.requested_at)
    while True:
        done = retired.count()
        checkpoint(operation, done, max(operation.total, done))
        mine = due().filter(recipient__account=operation.account_id)
        next_one = mine.order_by("recipient", "document").select_related("recipient").first()
        if next_one is None:
            break
        recipient, document = next_one.recipient, next_one.document
        here = mine.filter(recipient=recipient, document=document).order_by("pk")
        _take_out(recipient, document, list(here.values_list("pk", flat=True)[:BATCH_ITEMS]))
    _end(operation, retired.count())


def _take_out(recipient: Recipient, document: int, ids: list[uuid.UUID]) -> None:
    """Twice, because the vault keeps the version of a document before the newest."""
    nothing = {str(pk): None for pk in ids}
    if calls.patch_document(recipient, document, nothing):
        calls.patch_document(recipient, document, nothing)
    DataKey.objects.filter(pk__in=ids, retired_at=None).update(retired_at=timezone.now())


def _end(operation: Operation, count: int) -> None:
    """The receipt and the audit row, once."""
    if operation.concluded_at is not None:
        return
    message = f"{plural(count, 'unused data key')} left the vault's documents"
    with transaction.atomic():
        if not operation.conclude(retired=count):
            raise LeaseLost
        kms_audit.record(operation, "RETIRED", message, actor="rotator", count=count)
