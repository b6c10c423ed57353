"""An attacker who kept every version of every row, and later puts one back, or a whole table, while the worker works.

A signature does not tell today's row from last month's: on commit b817911 a former password signed in, a former Administrator was
one, a detached and a revoked machine read. What a process saw it remembers (accounts/memory.py), so nothing of that is so any
more where what came after was seen: nobody reads who was withdrawn, nobody signs in, no key is destroyed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import Role
from accounts.privileges import ADMINISTRATOR
from accounts.rows import RACE_SECONDS
from atoms import actions as atoms
from atoms.revocation import revoke_all_nodes
from extensions.connections import FieldSpec, save_connection
from extensions.models import ExtensionValue
from kmsruntime.errors import RuntimeProblem
from operations.models import Operation
from tests.conftest import PASSWORD, HostedVault
from tests.kmsruntime.container import Container, save
from tests.live import LivePortal
from tests.operations.test_queue_dead import until
from tests.security.rows import Snapshot, Table, Values, snapshot, tables, written
from tests.security.test_member_of_another_account import enrols, keys_of
from tests.security.visitor import Visitor
from vaults.keys.disable import disable_kms, enable_kms
from vaults.keys.retirement import retire_unused
from vaults.keys.rotation import request_rotation_of_all
from vaults.models import DataKey, KmsAccount

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
NEWEST = "saved after all of it"
NEW_PASSWORD = "another horse battery"
READS_AGAIN = "a detached machine reads"
REVOKED_READS = "a revoked machine reads"
ADMINISTERS = "a former Administrator is one"
FORMER = "a former password signs in"
# What each table's earlier rows do, put back by themselves; and what those of several tables do together.
DOES: dict[str, set[str]] = {}
TOGETHER = [
    ("atoms.Node", "atoms.NodeCredential"),
    ("accounts.User", "accounts.Session"),
    ("accounts.User", "accounts.Membership"),
]


@dataclass
class Past:
    """What happened in Acme, with every table as it was after each step."""

    portal: LivePortal
    directory: Path
    machines: dict[str, Container]
    bob: Visitor
    told: Callable[[], None]
    kept: list[Snapshot] = field(default_factory=list, repr=False)

    def note(self) -> None:
        """Once before the worker did what was asked for, and once after it."""
        self.kept.append(snapshot())
        self.told()
        self.kept.append(snapshot())

    def versions(self, table: Table) -> Iterator[tuple[Any, Values]]:
        """Each that a row of the table had, and has no more."""
        now, told = self.kept[-1][table], list[tuple[Any, Values]]()
        for rows in self.kept[:-1]:
            for key, row in rows[table].items():
                held = row.get("lease") is not None  # by a worker, just then: nobody would take it up for a minute
                if not held and row != now.get(key) and (key, row) not in told:
                    told.append((key, row))
                    yield key, row

    def results(self) -> set[str]:
        """What those get who were withdrawn, right now."""
        found = {word for word, machine in self.machines.items() if NEWEST in self._read(machine)}
        if self.bob.get(f"/accounts/{self.portal.stage.account.code}/audit/").status == 200:
            found.add(ADMINISTERS)
        thief = Visitor(self.portal.url)
        if thief.post("/auth/login/", {"login": "alice@example.com", "password": PASSWORD}).status == 302:
            found.add(FORMER)
        return found

    def _read(self, machine: Container) -> set[str]:
        """With a copy of its disk, as that was when it was still one of ours."""
        copy = self.directory / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(machine.directory, copy)
        stolen = Container(self.portal, copy)
        try:
            stolen.sync(accept_restore=True)
        except RuntimeProblem:
            return set()
        return set(stolen.values().values())


def settle() -> None:
    """All is done, but for the end of a rotation, which has its time."""
    left = Operation.objects.unfinished().exclude(queue="shred").exclude(kind="vaults.rotate", state="waiting")
    until(lambda: not left.exists(), 60)


@pytest.fixture
def told(portal: LivePortal) -> Callable[[], None]:
    """The worker hears of all that is due at once, so that nobody waits for its clock."""
    assert portal.valkey is not None
    queue = Celery("stranger", broker=portal.valkey.url, set_as_current=False)

    def tell() -> None:
        for key in Operation.objects.due().exclude(queue="shred").values_list("pk", flat=True):
            queue.send_task("operations.run", (str(key),), queue="interactive")
        settle()

    return tell


@pytest.fixture
def past(portal: LivePortal, tmp_path: Path, visitor: Callable[..., Visitor], told: Callable[[], None]) -> Past:
    stage = portal.stage
    account, alice, bob = stage.account, stage.alice, stage.cast.bob
    accounts.add_member(account, bob, [Role.objects.get(pk=ADMINISTRATOR)], actor=alice)
    lost = atoms.create_atom(account, name="Lost", type="MOLECULE", environment=stage.production, actor=alice)
    told()
    save(stage, {"region": "eu"}, password="the first", host="db.example.com")
    machines = {
        REVOKED_READS: Container(portal, tmp_path / "revoked").enrol(lost),
        READS_AGAIN: Container(portal, tmp_path / "detached").enrol(stage.second),
    }
    for machine in machines.values():
        machine.sync()
    found = Past(portal, tmp_path, machines, visitor("bob"), told)
    found.note()
    for step in (
        lambda: save(stage, {"region": "us"}, password="the second", apiKey="a key"),
        lambda: edit(stage),
        lambda: atoms.create_installer_token(lost, minutes=30, actor=alice),
        lambda: revoke_all_nodes(lost, actor=alice),
        lambda: atoms.detach(stage.second, actor=alice),
        lambda: request_rotation_of_all(account, actor=alice),
        lambda: disable_kms(account, days=30, actor=alice),
        lambda: enable_kms(account, actor=alice),
        lambda: accounts.add_member(account, bob, [Role.objects.get(account=account)], actor=alice),
        lambda: change_password(alice),
        lambda: atoms.delete_environment(stage.test, expected_revision=0, actor=alice),
        lambda: save(stage, {"region": None}, password=NEWEST),
    ):
        step()
        found.note()
    time.sleep(RACE_SECONDS + 1)  # what was changed just now may have been read before
    return found


def edit(stage: Any) -> None:
    kept = [
        FieldSpec(one.pk, one.key, one.label, one.encrypted, one.extensible, one.component_value)
        for one in stage.connection.fields.exclude(key="user")
    ]
    save_connection(
        stage.account, stage.connection, name="Orders", fields=kept, deleted=[stage.field("user").pk], actor=stage.alice
    )


def change_password(alice: Any) -> None:
    alice.refresh_from_db()
    alice.set_password(NEW_PASSWORD)
    alice.save()


def vault_keys(past: Past, vault: HostedVault) -> list[Any]:
    """Without the oldest version that opens, which the end of the rotation raises."""
    return [(row[0], row[1], row[3]) for row in keys_of(vault, past.portal.stage.account)]


def test_a_row_put_back_does_what_is_listed_and_nothing_else(
    past: Past, told: Callable[[], None], hosted_vault: HostedVault, got: Callable[[str], None]
) -> None:
    keys = vault_keys(past, hosted_vault)
    assert past.results() == set(), "they are withdrawn"
    does: dict[str, set[str]] = {}
    tried = 0
    for table in tables():
        for key, row in past.versions(table):
            with written(table, key, row) as done:
                if done:
                    told()
                    tried += 1
                    does.setdefault(table._meta.label, set()).update(past.results())
    got("; ".join(sorted(set().union(*does.values()))))
    assert {label: found for label, found in does.items() if found} == DOES
    assert tried > 50
    assert past.results() == set(), "with the rows of today nobody is back"
    assert vault_keys(past, hosted_vault) == keys


def test_a_table_put_back_does_no_more_than_its_rows(
    past: Past, told: Callable[[], None], hosted_vault: HostedVault, got: Callable[[str], None]
) -> None:
    keys = vault_keys(past, hosted_vault)
    every = {table._meta.label: table for table in tables()}
    does: dict[tuple[str, ...], set[str]] = {}
    for labels in (*((label,) for label in every), *TOGETHER):
        with ExitStack() as stack:
            done = [
                stack.enter_context(written(every[label], key, row))
                for label in labels
                for key, row in past.kept[0][every[label]].items()
                if row != past.kept[-1][every[label]].get(key)
            ]
            if any(done):
                told()
                does[labels] = past.results()
    got("; ".join(sorted(set().union(*does.values()))))
    assert {labels: found for labels, found in does.items() if found} == {}
    assert vault_keys(past, hosted_vault) == keys


def test_a_data_key_that_is_said_to_be_long_unused_is_destroyed(
    portal: LivePortal, told: Callable[[], None], hosted_vault: HostedVault, got: Callable[[str], None]
) -> None:
    """The next issue's: neither `unused_since` nor which rows use a data key is anybody's word. A loss; it opens nothing."""
    stage = portal.stage
    save(stage, password="lost")
    save(stage, apiKey="kept")
    lost, kept = ExtensionValue.objects.order_by("revision").filter(form="sealed")
    with written(ExtensionValue, lost.pk, {"data_key_id": kept.data_key_id}):
        DataKey.objects.filter(pk=lost.data_key_id).update(unused_since=timezone.now() - timedelta(days=10_000))
        retire_unused()  # as the worker's clock does once a day
        told()
    wrapped = {one for key in keys_of(hosted_vault, stage.account) for one in key[3]}
    got("the loss of a value")
    assert (str(lost.data_key_id) in wrapped, str(kept.data_key_id) in wrapped) == (False, True)


def test_a_disabled_account_that_is_said_to_be_active_stays_disabled(
    portal: LivePortal, told: Callable[[], None], got: Callable[[str], None]
) -> None:
    """By the row of the day before: on commit b817911 the portal let its machines in."""
    stage = portal.stage
    token = atoms.create_installer_token(stage.atom, minutes=30, actor=stage.alice)[1]
    [(key, row)] = snapshot()[KmsAccount].items()
    disable_kms(stage.account, days=30, actor=stage.alice)
    told()
    assert enrols(portal, token) == "kms_inactive"
    time.sleep(RACE_SECONDS + 1)
    with written(KmsAccount, key, row):
        assert enrols(portal, token) == "kms_inactive"
    got("nothing")
