"""Letting go of what an environment does not hold as it was saved: the way on when what is missing does not come back.

What was changed or taken away past the portal stops every save until it is entered anew. A field or connection that is gone
cannot be entered; giving it up is an Administrator's word, signed with the list that has it no more.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction

from accounts.models import User
from atoms.models import Environment
from extensions.actions import StaleRevision, save_key_for, versions_of, write
from extensions.listing import Listed, Path
from extensions.models import ExtensionValue, Field, listed_in
from extensions.plan import Plan, plan_letting_go

FORMS = {"sealed": "an encrypted value", "plain": "a plain value", "component": "the connection's value"}


@dataclass(frozen=True, slots=True)
class Loose:
    """One thing that is not as it was saved. listed: what the signed list says of it, None when nobody ever saved it."""

    path: Path
    name: str
    deed: str
    listed: Listed | None

    @property
    def what(self) -> str:
        if self.path[0] == "property":
            return "a process property"
        return FORMS[self.listed.form] if self.listed else "a value"

    @property
    def saved_at(self) -> datetime | None:
        return datetime.fromtimestamp(self.listed.at, UTC) if self.listed else None


@dataclass(frozen=True, slots=True)
class LettingGo:
    """All that is loose in an environment, by name, and the plan of letting go of it."""

    plan: Plan
    loose: list[Loose]

    @property
    def token(self) -> str:
        """What the confirming page sends: it stands for these very things and this revision."""
        named = [[*one.path, one.deed, *(one.listed or ())] for one in self.loose]
        return hashlib.sha256(json.dumps([self.plan.revision, named]).encode()).hexdigest()[:32]

    @property
    def inherits(self) -> list[str]:
        """Names of the plain fields among it that follow the connection component's value from then on."""
        return [f"{held.name} / {held.label}" for path, held in self.plan.written.items() if path in self.plan.let_go]


def letting_go(environment: Environment) -> LettingGo:
    """What there is to let go of. Raises RowTampered when the list itself is not the one that was saved."""
    listing = listed_in(environment)
    fields = Field.objects.filter(connection__account=environment.account_id).genuine()
    plan = plan_letting_go(environment, fields, listing)
    known = {row.path for row in fields}
    loose = [_loose(plan, path, listing.rows.get(path), path in known) for path in plan.let_go]
    return LettingGo(plan, sorted(loose, key=lambda one: (one.name, one.path)))


def let_go(environment: Environment, *, token: str, actor: User) -> int:
    """Write a signed list without what is loose, and delete its rows; the environment's revision by then.

    A place where a secret was stays one for secrets. Raises StaleRevision when something else is loose than the token stands for
    (LettingGo.token), or nothing is; RowTampered, and what sealing.new_save_key raises. Nothing is written then.
    """
    environment = Environment.objects.select_related("account__kms").get(pk=environment.pk).verified()
    versions = versions_of(environment.account)
    found = letting_go(environment)
    if not found.loose or token != found.token:
        raise StaleRevision([])
    key, of_fields = (
        save_key_for(found.plan),
        Field.objects.filter(connection__account=environment.account_id).values("pk"),
    )
    with transaction.atomic():
        write(found.plan, key, versions, "LET_GO", f"let go of {len(found.loose)} values", actor)
        ExtensionValue.objects.filter(environment=environment).exclude(field__in=of_fields).delete()
    return found.plan.revision


def _loose(plan: Plan, path: Path, listed: Listed | None, has_field: bool) -> Loose:
    held = plan.removed.get(path) or plan.held.get(path)
    name = f"{held.name} / {held.label}" if held and held.name else path[-1]
    if listed is None:
        return Loose(path, name, "nobody saved it", listed)
    if path[0] == "connection" and not has_field:
        return Loose(path, name, "its field was changed or taken away", listed)
    return Loose(path, name, "it was taken away" if path in plan.gone else "it was changed", listed)
