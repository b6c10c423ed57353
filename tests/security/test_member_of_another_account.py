"""Charlie, Administrator of Other Ltd, who also writes any row: his genuine sign-in, container and installer token, and the rows
of two accounts that hold the same things, each pointed from one account into the other.

On commit 04c4fbf one of these steps won: with Acme's connection moved into his account, Alice's next save of something else deleted
all that her environment held for it, secrets included, and said nothing; her container had it no more.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from accounts.models import Account, Role, User
from atoms import actions as atoms
from atoms.models import Atom, Environment, InstallerToken
from extensions.actions import save_extensions
from extensions.connections import FieldSpec, save_connection
from extensions.models import Field
from extensions.plan import FieldChange, PropertyChange
from extensions.secret import Secret
from kmsruntime.errors import RuntimeProblem
from operations.models import Operation
from tests.conftest import HostedVault
from tests.kmsruntime.container import Container
from tests.live import LivePortal
from tests.operations.test_queue_dead import until
from tests.security.rows import Snapshot, Table, Values, mapped, snapshot, tables, written
from tests.security.visitor import Visitor
from vaults.keys.provision import activate_kms
from vaults.models import Recipient, ShredApproval

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@dataclass
class Side:
    """One of two accounts that hold the same things; whatever is its own has its word in it."""

    word: str
    account: Account
    person: User
    container: Container
    installer_token: str
    rows: Snapshot = field(default_factory=dict, repr=False)

    @property
    def page(self) -> str:
        return f"/accounts/{self.account.code}/"

    def got(self) -> dict[str, str] | str:
        """What its container holds after asking for everything; the code of a refusal."""
        try:
            self.container.sync(accept_restore=True)
        except RuntimeProblem as problem:
            return problem.code
        return self.container.values()


def furnished(portal: LivePortal, account: Account, person: User, word: str, directory: Path) -> Side:
    """All kinds of rows, made as the portal makes them."""
    place = atoms.create_environment(account, name=f"{word} place", classification="PROD", actor=person)
    atom = atoms.create_atom(account, name=f"{word} Atom", type="MOLECULE", environment=place, actor=person)
    until(
        lambda: Environment.objects.get(pk=place.pk).provisioned_at and Atom.objects.get(pk=atom.pk).provisioned_at, 30
    )
    role = Role(account=account, name=f"{word} readers", privileges="")
    role.save(force_insert=True)
    atoms.set_environment_roles(place, [role], actor=person)
    specs = [
        FieldSpec(None, "secret", "Secret", True, True, ""),
        FieldSpec(None, "host", "Host", False, True, f"{word}.example"),
    ]
    joined = save_connection(account, None, name=f"{word} database", fields=specs, actor=person)
    secret, host = joined.fields.order_by("-encrypted")
    place.refresh_from_db()
    changes = [FieldChange(secret, "secret", Secret(f"{word} secret")), FieldChange(host, "plain", f"{word} host")]
    save_extensions(place, changes, [PropertyChange("name", f"{word} name")], expected_revision=0, actor=person)
    machine = Container(portal, directory)
    assert machine.enrol_with(atoms.create_installer_token(atom, minutes=30, actor=person)[1]).returncode == 0
    machine.sync()
    token = atoms.create_installer_token(atom, minutes=30, actor=person)[1]
    asked = Operation(
        account=account, kind="vaults.shred", subject_id=account.pk, title=word, requested_by=person, queue="shred",
        state=Operation.State.CANCELLED, current_until=account.created_at,
    )  # fmt: skip
    asked.save(force_insert=True)
    ShredApproval(operation=asked, account=account, user=person).save(force_insert=True)
    return Side(word, account, person, machine, token)


@pytest.fixture
def sides(portal: LivePortal, hosted_vault: HostedVault, tmp_path: Path) -> tuple[Side, Side]:
    """Acme's, and Charlie's own."""
    cast = portal.stage.cast
    activate_kms(cast.other, actor="tests")
    found, rows = [], snapshot()
    for account, person, word in ((cast.account, cast.alice, "acme"), (cast.other, cast.charlie, "other")):
        side = furnished(portal, Account.objects.get(pk=account.pk), person, word, tmp_path / word)
        until(lambda: not Operation.objects.unfinished().exists(), 30)
        after = snapshot()
        side.rows = {
            table: {key: row for key, row in after[table].items() if key not in rows[table]} for table in after
        }
        found, rows = [*found, side], after
    for side in found:
        tokens = side.rows[InstallerToken]  # the one that is good comes first
        side.rows[InstallerToken] = dict(sorted(tokens.items(), key=lambda item: item[1]["spent_at"] is not None))
        # What the cast came with.
        side.rows[Account] = {side.account.pk: rows[Account][side.account.pk]}
        side.rows[User] = {side.person.pk: rows[User][side.person.pk]}
        for table in tables():
            names = {column.name for column in table._meta.concrete_fields}
            if {"account", "user"} <= names and not side.rows[table]:
                side.rows[table] = {
                    key: row
                    for key, row in rows[table].items()
                    if row["account_id"] == side.account.pk and row["user_id"] == side.person.pk
                }
    return found[0], found[1]


def pairs(one: Side, other: Side) -> dict[uuid.UUID, uuid.UUID]:
    """Each id of one side, and that of the row which is the same thing on the other side."""
    found: dict[uuid.UUID, uuid.UUID] = {}
    for table, rows in one.rows.items():
        theirs = list(other.rows[table])
        ours = [key for key in rows if isinstance(key, uuid.UUID)]
        found |= dict(zip(ours, theirs, strict=False))
    return found


def moves(one: Side, other: Side) -> Iterator[tuple[Table, Any, Values]]:
    """Each column of one side's rows that names an id, pointed to the other's; then all of a row's at once. One row of a kind."""
    ids, tried = pairs(one, other), set[tuple[Table, str]]()
    for table, rows in one.rows.items():
        for key, row in rows.items():
            whole = mapped(row, table._meta.pk.attname, ids)
            new = {name: value for name, value in whole.items() if (table, name) not in tried}
            yield from ((table, key, {name: value}) for name, value in new.items())
            if new and len(whole) > 1:
                yield table, key, whole
            tried |= {(table, name) for name in new}


def keys_of(vault: HostedVault, account: Account) -> list[tuple[Any, ...]]:
    """Each of the account's in-transit keys with its versions, and which data keys are wrapped with it."""
    found = []
    for recipient in Recipient.objects.filter(pk__in=account.recipients.values("pk")).order_by("pk"):
        _, key = vault.root.status_of("GET", f"{recipient.mounts.transit}/keys/{recipient.pk}")
        _, document = vault.root.status_of("GET", f"{recipient.mounts.documents}/data/{recipient.pk}/0")
        data = (key or {}).get("data", {})
        wrapped = ((document or {}).get("data") or {}).get("data") or {}
        found.append((recipient.pk, data.get("latest_version"), data.get("min_decryption_version"), sorted(wrapped)))
    return found


def enrols(portal: LivePortal, token: str) -> str:
    """The code with which a machine with this installer token is refused; "" when it is not."""
    hashes = {"sync_hash": uuid.uuid4().hex * 2, "settings_hash": uuid.uuid4().hex * 2}
    asked = {"headers": {"Authorization": f"Bearer {token}"}, "timeout": 20}
    answer = requests.post(f"{portal.url}/api/atom/v1/enrol", json=hashes, **asked)
    return "" if answer.status_code == 202 else answer.json()["code"]


PAGES = ("audit/", "atoms/", "operations/", "connections/", "kms/")
REFUSALS = (403, 404, 409, 422)


@dataclass
class Attack:
    """What is tried while a row is moved; `won` says of each move that changed something for anybody."""

    portal: LivePortal
    acme: Side
    his: Side
    alice: Visitor
    charlie: Visitor
    won: list[str] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.truths = {side.word: side.got() for side in (self.acme, self.his)}
        self.place = next(iter(self.acme.rows[Environment]))
        self.host = Field.objects.get(connection__name="acme database", label="Host").pk
        self.dialog = f"environments/{self.place}/extensions/"
        self.theirs = [self.acme.page + page for page in (*PAGES, self.dialog)]
        self.token = self.alice.token(self.acme.page + self.dialog)

    def check(self, good: bool, what: str) -> None:
        self.won += [] if good else [what]

    def read(self, what: str) -> None:
        self.tried["moved"] += 1
        page = self.theirs[self.tried["moved"] % len(self.theirs)]
        for tried in (page, self.acme.page + self.dialog, self.his.page + self.dialog):
            self.check(self.charlie.get(tried).status in REFUSALS, f"{what}: he reads {tried}")

    def enrol(self, what: str) -> None:
        self.tried["with a token"] += 1
        self.check(enrols(self.portal, self.his.installer_token) != "", f"{what}: his token is taken")

    def save(self, what: str) -> None:
        """Alice's, of something else; the truth afterwards if it was taken."""
        before = Environment.objects.get(pk=self.place).extensions_revision
        typed = f"acme host {self.tried['moved']}"
        form = {"expected_revision": str(before), f"value.{self.host}": typed}
        answer = self.alice.post(self.acme.page + self.dialog, form, self.token)
        if Environment.objects.get(pk=self.place).extensions_revision > before:
            self.truths["acme"] = {**self.truths["acme"], "acme database/host": typed}
        else:
            self.tried["save refused"] += 1
            self.check(answer.status in REFUSALS, f"{what}: a save is answered {answer.status}")

    def deliver(self, what: str, *, moved: bool) -> None:
        """To both containers: their own, or, while a row is moved, nothing or a refusal."""
        for side in (self.acme, self.his):
            got = side.got()
            self.tried["delivery refused"] += isinstance(got, str)
            self.tried["wiped"] += got == {}
            good = got == self.truths[side.word] or (moved and (isinstance(got, str) or got == {}))
            self.check(good, f"{what}: {side.word} gets {got}{'' if moved else ' afterwards'}")


def test_whatever_he_moves_each_account_keeps_its_own(
    portal: LivePortal, hosted_vault: HostedVault, sides: tuple[Side, Side], visitor: Callable[..., Visitor]
) -> None:
    """Meanwhile the worker works, Alice saves something else, and both containers ask for everything."""
    acme, his = sides
    attack = Attack(portal, acme, his, visitor("alice"), visitor("charlie"))
    assert [f"{side.word} secret" in str(attack.truths[side.word]) for side in sides] == [True, True]
    assert {attack.alice.get(page).status for page in attack.theirs} == {200}
    assert {attack.charlie.get(page).status for page in attack.theirs} == {404}
    keys = keys_of(hosted_vault, acme.account)
    granting = {(InstallerToken, next(iter(his.rows[InstallerToken]))), *((Atom, key) for key in his.rows[Atom])}
    for one, other in ((acme, his), (his, acme)):
        for table, key, values in moves(one, other):
            what = f"{one.word}: {table._meta.label} {' '.join(values)}"
            with written(table, key, values) as done:
                if not done:
                    continue
                attack.read(what)
                if (table, key) in granting and {"atom_id", "account_id"} & set(values):
                    attack.enrol(what)
                attack.save(what)
                attack.deliver(what, moved=True)
            until(lambda: not Operation.objects.unfinished().filter(queue="interactive").exists(), 30)
            attack.deliver(what, moved=False)
    assert attack.won == []
    tried = attack.tried
    assert (tried["moved"] > 90, tried["with a token"] > 2, tried["save refused"] > 5) == (True, True, True)
    assert tried["delivery refused"] > 10
    after = keys_of(hosted_vault, acme.account)
    assert [row[:3] for row in after] == [row[:3] for row in keys], "none was destroyed or rotated"
    assert all(set(was[3]) <= set(is_now[3]) for was, is_now in zip(keys, after, strict=True))
    assert enrols(portal, his.installer_token) == "", "while nothing is moved it is good"
