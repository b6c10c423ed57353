"""After a restore: what each environment holds is published anew, and what cannot be opened any more is named."""

import uuid
from collections.abc import Collection

from django.db.models import Max

from accounts.models import Account
from atoms.models import Environment, Node
from extensions.actions import StaleRevision, republish
from extensions.models import ExtensionValue
from vaults.models import ContainerReport
from vaults.restore.account import ACTOR, Restore, done_before, record_step

TRIES = 20  # somebody may save in between, again and again; an operator who restores does not begin anew for that
STEP = "RESTORE_EXTENSIONS"


def publish_extensions(
    account: Account, restore: Restore, changed: Collection[uuid.UUID] = (), without: Collection[uuid.UUID] = ()
) -> list[tuple[Environment, int]]:
    """Seal the list of each environment anew, above every revision that a container may have met.

    changed: environments whose data keys were marked or unmarked just now; the others are published once for a restore.
    without: those that have no key in the vault. Returns (environment, revision). Raises what extensions.actions.republish raises.
    """
    done, met = done_before(account, restore, STEP), _highest(account)
    published = []
    for environment in (
        account.environments.filter(extensions_revision__gt=0).exclude(provisioned_at=None).order_by("pk")
    ):
        first = str(environment.pk) not in done
        if (first or environment.pk in changed) and environment.pk not in without:
            jump = restore.jump if restore.database and first else 0
            revision = _republish(environment, max(met.get(environment.pk, 0), environment.extensions_revision) + jump)
            message = f"Environment extensions of {environment.name} published anew after a restore"
            record_step(environment, restore, STEP, message, revision=revision)
            published.append((environment, revision))
    return published


def _republish(environment: Environment, above: int) -> int:
    for _ in range(TRIES - 1):
        try:
            return republish(environment, above=above, actor=ACTOR)
        except StaleRevision:
            continue
    return republish(environment, above=above, actor=ACTOR)


def _highest(account: Account) -> dict[uuid.UUID, int]:
    """The highest revision of each environment that was delivered or reported; two queries."""
    found: dict[uuid.UUID, int] = {}
    nodes = Node.objects.filter(atom__account=account).order_by()
    reports = ContainerReport.objects.filter(node__atom__account=account).order_by()
    told = list(nodes.values_list("delivered_environment").annotate(Max("delivered_revision")))
    for environment, revision in [*told, *reports.values_list("environment").annotate(Max("revision"))]:
        found[environment] = max(found.get(environment, 0), revision or 0)
    return found


def to_enter_again(account: Account) -> list[str]:
    """Names of the values that the vault lost the keys of: what the re-entry worklist has."""
    values = ExtensionValue.objects.filter(environment__account=account).exclude(data_key__lost_at=None)
    names = values.values_list("environment__name", "field__connection__name", "field__label")
    return [" / ".join(row) for row in names.order_by("environment__name", "field__connection__name", "field__label")]
