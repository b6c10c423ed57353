"""No two acts wait for each other, however they meet: what they are about is locked first, the account last.

One has the account's lock; the other is about to ask for it, and has all it takes before. Then both go on. PostgreSQL ends one of
two that wait for each other, after a second, as an error.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Concat

from accounts import actions as accounts
from atoms import actions as atoms
from atoms.actions import EnvironmentInUse
from atoms.models import Atom, Environment, Node
from extensions.actions import save_extensions
from extensions.connections import FieldSpec, delete_connection, save_connection
from extensions.plan import FieldChange
from extensions.secret import Secret
from kmscore.refused import Refused
from operations import actions as operations
from operations.models import Operation
from tests.conftest import Stage
from tests.live import ROOT
from vaults.keys.disable import disable_kms, enable_kms
from vaults.keys.rekey import request_rekey
from vaults.keys.rotation import KIND as ROTATION
from vaults.keys.rotation import request_rotation_of_all, set_schedule
from vaults.logins import enrolment
from vaults.vault_operation import KEYS_GROUP

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
ROOMS = ("accounts", "operations", "atoms", "vaults", "extensions", "atomapi", "kmsportal")
Act = Callable[[], object]
Meeting = tuple[Act, Act]


def _is_the_accounts_lock(sql: str) -> bool:
    return 'FROM "accounts_account"' in sql and sql.endswith("UPDATE")


@dataclass
class Meeter:
    """One act in a thread of its own, which stops once at the account's lock until it is let go on."""

    act: Act
    has_lock: bool  # it stops when it has the lock, and not before
    there: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    failed: BaseException | None = None
    backend: int = 0

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self.backend = cursor.fetchone()[0]
            with connection.execute_wrapper(self._stop):
                self.act()
        except Exception as error:  # the test tells which is one
            self.failed = error
        finally:
            self.there.set()
            connection.close()

    def _stop(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        first = _is_the_accounts_lock(sql) and not self.there.is_set()
        if first and not self.has_lock:
            self._wait()
        result = execute(sql, params, many, context)
        if first and self.has_lock:
            self._wait()
        return result

    def _wait(self) -> None:
        self.there.set()
        assert self.go_on.wait(60)

    def is_there_or_waits_for_a_lock(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s))", [self.backend])
            return self.there.is_set() or cursor.fetchone()[0] > 0


def meet(having: Act, wanting: Act) -> list[BaseException]:
    """What the two raised."""
    first, second = Meeter(having, has_lock=True), Meeter(wanting, has_lock=False)
    first.start()
    assert first.there.wait(60)
    second.start()
    while not second.is_there_or_waits_for_a_lock():
        time.sleep(0.01)
    for one in (second, first):
        one.go_on.set()
    for one in (first, second):
        one.thread.join(60)
    return [one.failed for one in (first, second) if one.failed is not None]


# -- who meets ----------------------------------------------------------------------------------------------------------


def a_new_atom_and_a_save(stage: Stage) -> Meeting:
    """The Atom refers to the environment that is being saved."""
    change = FieldChange(stage.field("password"), "secret", Secret("one"))
    return _new_atom(stage), lambda: save_extensions(stage.production, [change], expected_revision=0, actor=stage.alice)


def a_new_atom_and_the_end_of_its_environment(stage: Stage) -> Meeting:
    for atom in (stage.atom, stage.second):
        atoms.detach(atom, actor=stage.alice)
    return _new_atom(stage), lambda: atoms.delete_environment(stage.production, expected_revision=0, actor=stage.alice)


def new_keys_for_an_atom_that_moves(stage: Stage) -> Meeting:
    _enrolled(stage)
    stage.atom.refresh_from_db()
    move = lambda: atoms.attach(stage.atom, stage.test, actor=stage.alice)  # noqa: E731
    return lambda: request_rekey(stage.account, [stage.atom, stage.second], actor=stage.alice), move


def work_taken_up_and_cancelled(stage: Stage) -> Meeting:
    work = operations.request(
        ROTATION,
        account=stage.account,
        subject_id=stage.account.pk,
        title="Work",
        actor=stage.alice,
        exclusive_group=KEYS_GROUP,
    )
    return lambda: Operation.claim(work.pk), lambda: operations.cancel(work, actor=stage.alice)


def a_rotation_of_all_and_its_schedule(stage: Stage) -> Meeting:
    ask = lambda: request_rotation_of_all(stage.account, actor=stage.alice)  # noqa: E731
    return ask, lambda: set_schedule(stage.account, 90, actor=stage.alice)


def the_end_of_an_atom_that_enrols(stage: Stage) -> Meeting:
    return lambda: atoms.delete_atom(stage.atom, actor=stage.alice), _enrolling(stage)


def a_new_token_for_an_atom_that_enrols(stage: Stage) -> Meeting:
    begin = _enrolling(stage)
    return lambda: atoms.create_installer_token(stage.atom, minutes=30, actor=stage.alice), begin


def an_atom_that_enrols_and_a_new_token(stage: Stage) -> Meeting:
    return tuple(reversed(a_new_token_for_an_atom_that_enrols(stage)))  # type: ignore[return-value]


def the_end_of_a_connection_and_its_change(stage: Stage) -> Meeting:
    """In an account without environments, which would be locked before."""
    account = accounts.create_account("Nothing yet", actor="tests")
    found = save_connection(account, None, name="Orders", fields=[], actor=stage.alice)
    spec = FieldSpec(None, "host", "Host", False, True, "db.example.com")
    change = lambda: save_connection(account, found, name="Renamed", fields=[spec], actor=stage.alice)  # noqa: E731
    return lambda: delete_connection(found, actor=stage.alice), change


def _new_atom(stage: Stage) -> Act:
    return lambda: atoms.create_atom(
        stage.account, name="Third", type="ATOM", environment=stage.production, actor=stage.alice
    )


def _enrolling(stage: Stage) -> Act:
    token = atoms.create_installer_token(stage.atom, minutes=30, actor=stage.alice)[1]
    hashes = {"sync_hash": b"1" * 32, "settings_hash": b"2" * 32}
    return lambda: enrolment.begin(token, host_name="host1", version="1", **hashes)


def _enrolled(stage: Stage) -> None:
    _enrolling(stage)()
    Node.objects.filter(atom=stage.atom).update(state=Node.State.ENROLLED)


MEETINGS = [
    a_new_atom_and_a_save,
    a_new_atom_and_the_end_of_its_environment,
    new_keys_for_an_atom_that_moves,
    work_taken_up_and_cancelled,
    a_rotation_of_all_and_its_schedule,
    the_end_of_an_atom_that_enrols,
    a_new_token_for_an_atom_that_enrols,
    an_atom_that_enrols_and_a_new_token,
    the_end_of_a_connection_and_its_change,
]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="on SQLite one transaction writes at a time")
@pytest.mark.parametrize("meeting", MEETINGS, ids=lambda meeting: meeting.__name__)
def test_both_come_to_an_end(stage: Stage, meeting: Callable[[Stage], Meeting]) -> None:
    assert [error for error in meet(*meeting(stage)) if not isinstance(error, (Refused, EnvironmentInUse))] == []


# -- who locks many of a kind -------------------------------------------------------------------------------------------


def meet_at_the_last(rows: QuerySet[Any], *acts: Act) -> list[BaseException]:
    """What acts raised that lock all of these, one begun after the other, when somebody else had the last by primary key.

    That is the first as they lie: whoever takes them so waits for it with none in hand, has it before the others do, and then
    wants what they have.
    """
    *others, last = rows.order_by("pk").values_list("pk", flat=True)
    rows.filter(pk__in=others).update(name=Concat(Value("Z "), "name"))  # behind it as they lie, and by name
    meeters = [Meeter(act, has_lock=False) for act in acts]
    with transaction.atomic():
        rows.select_for_update(no_key=True).get(pk=last)
        for one in meeters:
            one.go_on.set()
            one.start()
            while not one.is_there_or_waits_for_a_lock():
                time.sleep(0.01)
    for one in meeters:
        one.thread.join(60)
    return [one.failed for one in meeters if one.failed is not None]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="on SQLite one transaction writes at a time")
@pytest.mark.parametrize("kind", ["Atoms", "environments"])
def test_who_locks_many_takes_them_by_primary_key(stage: Stage, kind: str) -> None:
    """Keys that are enabled again, and new keys at rest or a connection's change, which lock all of them as well."""
    _enrolled(stage)
    disable_kms(stage.account, days=7, actor=stage.alice)
    rows: Any = Atom.objects if kind == "Atoms" else Environment.objects
    other: Act = partial(request_rekey, stage.account, [stage.atom, stage.second], actor=stage.alice)
    if kind == "environments":
        other = partial(save_connection, stage.account, stage.connection, name="New", fields=[], actor=stage.alice)
    enable = partial(enable_kms, stage.account, actor=stage.alice)
    raised = meet_at_the_last(rows.filter(account=stage.account), enable, other)
    assert [error for error in raised if not isinstance(error, Refused)] == []


def test_a_lock_is_none_for_those_who_only_refer_to_the_row() -> None:
    """What is written with a reference to a row asks for a share of it at the commit, with the account's lock in hand."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for lock in re.findall(r"select_for_update\(.*", path.read_text()):
                assert "no_key=True" in lock, path
