"""What has to be entered again, because the vault has lost the keys it was sealed with; and how far that is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import Count, Min, Q, QuerySet, Sum

from accounts.models import Membership
from accounts.rows import RowTampered
from atoms.models import Atom, Environment
from extensions.listing import Path
from extensions.models import ExtensionValue, listed_in, with_names
from vaults.models import LostKeys


@dataclass(frozen=True, slots=True)
class ReentryProgress:
    """How many of an environment's lost values were dealt with since the loss that is not made good yet."""

    environment: Environment
    done: int
    total: int


def needed(membership: Membership) -> QuerySet[ExtensionValue]:
    """Values nobody can open any more, in the environments the member sees; by environment, connection and field."""
    values = ExtensionValue.objects.filter(
        environment__in=Environment.objects.visible_to(membership), form="sealed", data_key__lost_at__isnull=False
    )
    related = values.select_related("environment", "field__connection", "data_key").defer("sealed")
    return related.order_by(
        "environment__name", "field__connection__name", "field__connection_id", "field__position", "field__key"
    )


def with_setters(values: Iterable[ExtensionValue]) -> list[tuple[ExtensionValue, str]]:
    """Each with who saved it, by the signed list; "" when that is not to be believed. Two queries for each environment."""
    lists: dict[object, Mapping[Path, str]] = {}
    found = []
    for value in values:
        if value.environment_id not in lists:
            lists[value.environment_id] = _setters_in(value.environment)
        found.append((value, lists[value.environment_id].get(value.field.path, "")))
    return found


def _setters_in(environment: Environment) -> Mapping[Path, str]:
    try:
        return with_names(listed_in(environment)).by
    except RowTampered:
        return {}


def progress(membership: Membership) -> list[ReentryProgress]:
    """By environment; three queries, whatever their number. Those that are done are not listed."""
    left = {
        row["environment"]: row
        for row in needed(membership)
        .order_by()
        .values("environment")
        .annotate(count=Count("pk"), since=Min("data_key__lost_at"))
    }
    if not left:
        return []
    since = Q(pk__in=[])
    for pk, row in left.items():
        since |= Q(environment=pk, at__gte=row["since"])
    lost = dict(LostKeys.objects.filter(since).order_by().values_list("environment").annotate(Sum("count")))
    found = []
    for environment in Environment.objects.filter(pk__in=left).order_by("name"):
        count = left[environment.pk]["count"]
        total = max(lost.get(environment.pk, 0), count)
        found.append(ReentryProgress(environment, total - count, total))
    return found


def atoms_to_save(membership: Membership) -> QuerySet[Atom]:
    """Atoms whose KMS settings or properties file were lost: a new container could not read them."""
    lost = Q(kms_settings__data_key__lost_at__isnull=False) | Q(properties_file__data_key__lost_at__isnull=False)
    return Atom.objects.visible_to(membership).filter(lost).select_related("properties_file__data_key").order_by("name")
