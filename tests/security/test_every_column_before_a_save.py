"""I8 as far as a save goes: an attacker changes one column of one row, whatever it is, before Alice saves something else and before
a container asks for everything. What people and containers get is what it was before and what she typed, or one of the two is
refused: nothing that he wrote becomes the portal's own word.

On commit 04c4fbf a connection's `account_id` won: the save deleted what was held for it, secrets included, and said nothing.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import models
from django.db.models.expressions import RawSQL

from atoms.models import Environment
from extensions.models import EnvironmentManifest
from kmsruntime.errors import RuntimeProblem
from operations.models import Operation
from tests.conftest import Stage
from tests.kmsruntime.container import Container, save
from tests.live import LivePortal
from tests.operations.test_queue_dead import until
from tests.security.rows import Table, columns, tables, written
from tests.security.visitor import Visitor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
MARK = "past the portal"  # on the page, beside what was written
REFUSALS = (403, 404, 409, 422, 503)
# Columns that change what Alice's page shows without a refusal, and why that harms nobody.
WORDS = "a name in the words of a page; nobody is let in or told apart by it"
HEALTH = "how a container is said to be; it is shown worse or better than it is, and gets what it gets"
HARMLESS = {
    "accounts.User.first_name": WORDS,
    "accounts.User.last_name": WORDS,
    "accounts.User.email": "signing in again is refused; until then it is a name in the words of a page",
    "accounts.User.is_staff": "a link is shown; the pages behind it want a signed row",
    "accounts.Account.name": WORDS,
    "atoms.Environment.extensions_changed_at": "when it was saved last, in words; the audit log, which is signed, says it too",
    "atoms.Node.enrolled_at": HEALTH,
    "atoms.Node.last_seen_at": HEALTH,
    "vaults.ContainerReport.source": HEALTH,
    "vaults.ContainerReport.wrapped": HEALTH,
    "vaults.ContainerReport.environment_id": HEALTH,
    "vaults.ContainerReport.verdict": HEALTH,
    "vaults.ContainerReport.values": HEALTH,
    "vaults.DataKey.lost_at": "a value is said to be lost that is not; who holds it keeps it, a new container refuses",
    "extensions.Field.position": "the order of the fields on the page",
}


EARLIER = timedelta(days=400)
NEAR: dict[type, Callable[[Any], Any]] = {
    bool: lambda own: not own,
    int: lambda own: own + 1,
    datetime: lambda own: own - EARLIER,
    bytes: lambda own: own[:-1] + bytes([own[-1] ^ 1]) if own else b"x",
    uuid.UUID: lambda own: uuid.uuid4(),
    dict: lambda own: {"written": True},
    list: lambda own: ["written"],
    str: lambda own: f"{own}x",
}
INSTEAD_OF_NONE: dict[type, Any] = {
    models.DateTimeField: datetime.fromisoformat("2025-01-01T00:00:00+00:00"),
    models.UUIDField: uuid.UUID(int=7),
    models.BinaryField: b"written",
}


def hostile(column: models.Field[Any, Any], own: Any) -> Any:
    """Another value of the right type: another row's id, another choice, or one near its own."""
    if column.is_relation:
        target = column.related_model._base_manager.exclude(pk=own)  # type: ignore[union-attr]
        return target.order_by(RawSQL("rowid", ())).values_list("pk", flat=True).first()
    if own is None:
        return INSTEAD_OF_NONE.get(type(column), 7)
    if column.choices and not isinstance(own, bool):
        return next((choice for choice, _ in column.choices if choice != own), None)
    return NEAR[bytes if isinstance(own, memoryview) else type(own)](bytes(own) if isinstance(own, memoryview) else own)


@dataclass
class Day:
    """What Alice saves, what the container holds, and what did not go as it should have."""

    portal: LivePortal
    container: Container
    visitor: Callable[..., Visitor]
    wrong: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)  # what Alice's page showed, and nobody refused
    tried: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        stage: Stage = self.portal.stage
        self.place, self.typed_in = stage.production.pk, stage.field("user").pk
        self.page = f"/accounts/{stage.account.code}/environments/{self.place}/extensions/"
        self.sign_in()
        self.truth, self.page_shown = self.got(), self.shown()

    def sign_in(self) -> None:
        self.alice = self.visitor("alice")
        self.token = self.alice.token(self.page)

    def got(self) -> Any:
        try:
            self.container.sync(accept_restore=True)
        except RuntimeProblem as problem:
            return problem.code
        return self.container.values()

    def shown(self) -> str:
        """The words of Alice's page, without numbers and what she typed; the status when it is refused."""
        answer = self.alice.get(self.page)
        if answer.status != 200:
            return str(answer.status)
        body = re.sub(r'name="(csrfmiddlewaretoken|expected_revision)" value="[^"]*"', "", answer.text)
        body = re.sub(r"<[^>]*>", " ", re.sub(r'value="([^"]*)"', r">\1<", body))
        body = re.sub(r"Saved as revision [0-9]+: [0-9]+ changed[.]", "", re.sub(r"user [0-9]+|app 2", "typed", body))
        return " ".join(re.sub(r"[0-9]+", "#", body).split())

    def look(self, what: str) -> None:
        shown = self.shown()
        if shown in map(str, (302, *REFUSALS)) or MARK in shown:
            self.tried["pages refused"] += 1
        elif shown != self.page_shown:
            self.told[what] = f"the page shows {sorted(set(shown.split()) ^ set(self.page_shown.split()))}"

    def save(self, what: str) -> None:
        before = EnvironmentManifest.objects.filter(environment=self.place).values("listed", "revision").first()
        revision = Environment.objects.get(pk=self.place).extensions_revision
        self.tried["saves"] += 1
        typed = f"user {self.tried['saves']}"
        form = {"expected_revision": str(revision), f"value.{self.typed_in}": typed}
        answer = self.alice.post(self.page, form, self.token)
        if answer.status == 302 and answer.location == self.page:
            self.truth |= {"Orders database/user": typed}
            return
        self.tried["saves refused"] += 1
        self.told.pop(what, None)
        if answer.status == 302:  # signed out: that is a refusal too
            self.alice = None  # type: ignore[assignment]
        elif answer.status not in REFUSALS:
            self.wrong[what] = f"the save is answered {answer.status}"
        if EnvironmentManifest.objects.filter(environment=self.place).values("listed", "revision").first() != before:
            self.wrong[what] = "a refused save changed the list"

    def deliver(self, what: str, *, afterwards: bool = False) -> None:
        got = self.got()
        if isinstance(got, str) and not afterwards:
            self.tried["deliveries refused"] += 1
            self.told.pop(what, None)
        elif got != self.truth:
            wrong = got if isinstance(got, str) else dict(got.items() ^ self.truth.items())
            self.wrong[what] = f"the container gets {wrong}{' afterwards' if afterwards else ''}"


def test_no_column_changes_what_anybody_gets_without_a_refusal(
    portal: LivePortal, enrolled: Container, visitor: Callable[..., Visitor]
) -> None:
    stage = portal.stage
    save(stage, {"region": "eu"}, password="a secret", host="db.example.com")
    save(stage, {"size": "5"}, user="app 2")
    day = Day(portal, enrolled, visitor)
    assert day.truth["Orders database/password"] == "a secret"
    for table in tables():
        for row in rows(table, stage):
            for column in columns(table):
                what = f"{table._meta.label}.{column.attname}"
                value = hostile(column, getattr(row, column.attname))
                with written(table, row.pk, {column.attname: value}) as done:
                    if not done:
                        continue
                    day.tried["columns"] += 1
                    day.look(what)
                    day.save(what)
                    day.deliver(what)
                until(lambda: not Operation.objects.unfinished().filter(queue="interactive").exists(), 40)
                if day.alice is None:
                    day.sign_in()
                day.deliver(what, afterwards=True)
    assert day.wrong == {}
    assert {what: said for what, said in day.told.items() if what not in HARMLESS} == {}
    tried = day.tried
    assert (tried["columns"] > 200, tried["saves refused"] > 20, tried["deliveries refused"] > 10) == (True, True, True)


def rows(table: Table, stage: Stage) -> list[Any]:
    """Those that matter most: of the Atom, the environment, the person that this is about; one sealed and one that is not."""
    found = list(_about(table, stage).order_by(RawSQL("rowid", ())))
    kinds = [one for one in ("form", "encrypted") if one in {column.name for column in table._meta.concrete_fields}]
    return list({tuple(getattr(row, kind) for kind in kinds): row for row in reversed(found)}.values())


def _about(table: Table, stage: Stage) -> Any:
    names = {column.name: column for column in table._meta.concrete_fields}
    for name, key in (
        ("atom", stage.atom.pk), ("environment", stage.production.pk), ("recipient", stage.production.pk),
        ("connection", stage.connection.pk), ("user", stage.alice.pk), ("account", stage.account.pk),
    ):  # fmt: skip
        if name in names and names[name].is_relation:
            return table._base_manager.filter(**{name: key})
    whose = {type(one): one.pk for one in (stage.atom, stage.production, stage.alice, stage.account)}
    return table._base_manager.filter(pk=whose[table]) if table in whose else table._base_manager.all()
