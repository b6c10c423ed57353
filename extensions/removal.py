"""What removing stored values does, read before it is confirmed: which value of which environment, and who loses it."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from atoms.models import Environment, Node
from extensions.models import Field
from vaults.models import ContainerReport


def token_of(values: Iterable[tuple[Environment, Field, int]], *told: int) -> str:
    """What the confirming box, button or page sends: it stands for these values, each as it was saved as that revision, and
    for the numbers told beside them. Whatever else was saved or replaced meanwhile has another one."""
    named = sorted((str(environment.pk), str(field.pk), revision) for environment, field, revision in values)
    return hashlib.sha256(json.dumps([named, told]).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Holders:
    """Who has what an environment holds: how many Atoms are attached, and which revisions their containers
    reported, lowest first."""

    environment: Environment
    atoms: int
    revisions: tuple[int, ...]

    def containers(self, revision: int) -> int:
        """How many containers have a value that was saved as this revision."""
        return len(self.revisions) - bisect_left(self.revisions, revision)


def holders_of(environment: Environment) -> Holders:
    """Two queries, whatever the number of values."""
    reports = ContainerReport.objects.filter(environment=environment).exclude(node__state=Node.State.REVOKED)
    revisions = tuple(reports.order_by("revision").values_list("revision", flat=True))
    return Holders(environment, environment.atoms.count(), revisions)


@dataclass(frozen=True, slots=True)
class Removal:
    """Of one stored value. What its token confirms is the removal of that very value, from just as many machines as the
    reader was told of."""

    field: Field
    revision: int  # the value's
    holders: Holders

    @property
    def containers(self) -> int:
        return self.holders.containers(self.revision)

    @property
    def title(self) -> str:
        """What is removed from where, as the box's label says it."""
        field = self.field
        return f"Remove {field.label} of {field.connection.name} from {self.holders.environment}"

    @property
    def sentence(self) -> str:
        field, atoms, containers = self.field, self.holders.atoms, self.containers
        gone = f"{field.label} of {field.connection.name} is removed from {self.holders.environment} for good"
        return f"{gone}: nobody can bring it back. {_losers(atoms)} {_holding(containers)}"

    @property
    def token(self) -> str:
        value = (self.holders.environment, self.field, self.revision)
        return token_of([value], self.holders.atoms, self.containers)

    def is_confirmed_by(self, token: str) -> bool:
        """Only by what was shown, as it was sent."""
        return token == self.token


def _losers(atoms: int) -> str:
    if not atoms:
        return "No Atom is attached."
    return "1 Atom loses it." if atoms == 1 else f"{atoms} Atoms lose it."


def _holding(containers: int) -> str:
    if not containers:
        return "No container has it."
    if containers == 1:
        return "1 container has it now and drops it at its next contact."
    return f"{containers} containers have it now and drop it at their next contact."
