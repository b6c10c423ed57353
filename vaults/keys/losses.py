"""Data keys the vault has no more: what was sealed with them has to be entered again."""

from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from accounts.models import Account
from vaults.models import DataKey, LostKeys


@transaction.atomic
def mark_lost(keys: QuerySet[DataKey], because: str) -> int:
    """Mark these data keys as gone; those that are marked already stay as they are. Returns how many were marked.

    because: DataKey.LostBecause. How many values of which environment that takes is kept, for the re-entry worklist. Four
    statements, however many keys there are.
    """
    now = timezone.now()
    newly = DataKey.objects.filter(pk__in=keys.values("pk"), lost_at=None)
    values = newly.exclude(extension_values=None).values_list("extension_values__environment")
    counts = values.annotate(Count("extension_values")).order_by()
    LostKeys.objects.bulk_create(
        LostKeys(environment_id=environment, at=now, because=because, count=count) for environment, count in counts
    )
    return newly.update(lost_at=now, lost_because=because)


def lost_values(account: Account) -> int:
    """How many values of an account are sealed with lost data keys."""
    keys = DataKey.objects.filter(recipient__account=account, lost_at__isnull=False)
    return keys.aggregate(Count("extension_values"))["extension_values__count"] or 0


@transaction.atomic
def unmark(keys: QuerySet[DataKey]) -> int:
    """The vault has these again (a newer backup was restored). What was shredded stays shredded. Returns how many."""
    found = DataKey.objects.filter(pk__in=keys.values("pk"), lost_because=DataKey.LostBecause.RESTORED)
    return found.update(lost_at=None, lost_because="")
