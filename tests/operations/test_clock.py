"""A worker's clock keeps the schedules of its queues, whatever fails, and does what the queue does not deliver."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.db import connection
from django.utils import timezone

from kmsportal.celery import app
from operations import actions, clock, work
from operations.clock import UNDELIVERED, Clock
from operations.models import Operation
from operations.work import Schedule, checkpoint, handler
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
BULK = Operation.Queue.BULK  # whose workers have no schedule but the sweep
happened: list[str] = []


@handler("tests.undelivered", queue=BULK)
def undelivered(operation: Operation) -> None:
    happened.append(operation.title)
    time.sleep(0.05)


@handler("tests.endless", queue=BULK)
def endless(operation: Operation) -> None:
    while True:
        checkpoint(operation, 0)


@pytest.fixture(autouse=True)
def empty() -> None:
    happened.clear()


@pytest.fixture
def deaf_queue() -> Iterator[None]:
    """It takes every message, and nobody listens."""
    Celery("deaf", broker="memory://", set_as_current=False).set_current()
    yield
    app.set_current()


def asked(cast: Cast, title: str, ago: timedelta = timedelta()) -> Operation:
    about: dict[str, Any] = {"account": cast.account, "subject_id": cast.account.pk, "title": title}
    return actions.request("tests.undelivered", **about, actor=None, run_after=timezone.now() - ago)


def turn_until(ours: Clock, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(min(ours.turn(), 0.01))


def keep(monkeypatch: pytest.MonkeyPatch, *schedules: tuple[Callable[[], object], float, str]) -> None:
    monkeypatch.setattr(work, "_schedules", [Schedule(*one) for one in schedules])


def fail() -> None:
    happened.append("failed")
    raise ZeroDivisionError


def tick() -> None:
    happened.append("tick")


def test_every_schedule_and_whose_it_is() -> None:
    ours = [one for one in work._schedules if one.job.__module__.startswith("vaults.")]
    assert {(one.job.__name__, one.seconds, str(one.queue)) for one in ours} == {
        ("scan_if_due", 20, "watch"),
        ("revoke_unfinished", 600, "interactive"),
        ("retire_unused", 86400, "interactive"),
        ("rotate_scheduled", 3600, "interactive"),
        ("ask_for_what_is_due", 60, "shred"),
        *(("keep_credentials", 3600, queue) for queue in ("interactive", "bulk", "watch", "shred")),
    }


def test_a_clock_keeps_the_schedules_of_its_workers_queues_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, (fail, 0.01, "shred"), (tick, 0.01, "bulk"))
    turn_until(Clock(["bulk"]), lambda: len(happened) == 5)
    assert set(happened) == {"tick"}


def test_a_job_that_fails_keeps_no_other_from_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, (fail, 0.01, "bulk"), (tick, 0.01, "bulk"))
    turn_until(Clock(["bulk"]), lambda: happened.count("tick") > 2 and happened.count("failed") > 2)


@pytest.mark.usefixtures("deaf_queue")
def test_the_clock_runs_what_the_queue_did_not_deliver(cast: Cast) -> None:
    asked(cast, "overdue", UNDELIVERED + timedelta(seconds=1))
    asked(cast, "told a moment ago")
    ours = Clock([BULK])
    ours.sweep()
    turn_until(ours, lambda: ours.turn() > 0)
    assert happened == ["overdue"]


def test_without_a_queue_the_clock_runs_at_once_what_is_due(cast: Cast) -> None:
    asked(cast, "later", -timedelta(minutes=1))
    asked(cast, "now")
    ours = Clock([BULK])
    ours.sweep()
    turn_until(ours, lambda: ours.turn() > 0)
    assert happened == ["now"]


def test_a_clock_leaves_alone_what_is_for_other_workers(cast: Cast) -> None:
    asked(cast, "of the bulk worker")
    ours = Clock(["shred"])
    ours.sweep()
    turn_until(ours, lambda: ours.turn() > 0)
    assert happened == []


def test_between_two_operations_the_schedules_have_their_turn(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, (tick, 0.01, BULK))
    for name in ("first", "second", "third"):
        asked(cast, name)
    ours = Clock([BULK])
    ours.sweep()
    turn_until(ours, lambda: "third" in happened)
    at = [happened.index(name) for name in ("first", "second", "third")]
    assert "tick" in happened[at[0] : at[1]]
    assert "tick" in happened[at[1] : at[2]]


def test_long_work_does_not_keep_the_clock(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "TURN_SECONDS", 0.05)
    operation = asked(cast, "long")
    operation.kind = "tests.endless"
    operation.save(update_fields=["kind"])
    ours = Clock([BULK])
    ours.sweep()
    turn_until(ours, lambda: ours.turn() > 0)
    operation.refresh_from_db()
    assert (operation.state, operation.error_code) == (Operation.State.WAITING, "next_turn")


def test_two_clocks_do_one_operation_once(cast: Cast) -> None:
    for number in range(5):
        asked(cast, f"operation {number}")
    together = threading.Barrier(2)

    def work_off() -> None:
        ours = Clock([BULK])
        together.wait()
        ours.sweep()
        turn_until(ours, lambda: not Operation.objects.unfinished().filter(kind="tests.undelivered").exists())
        connection.close()

    threads = [threading.Thread(target=work_off) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(happened) == [f"operation {number}" for number in range(5)]


def test_a_clock_ends_when_its_worker_does(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, (tick, 0.01, BULK))
    ours = Clock([BULK])
    ours.start()
    while not happened:
        time.sleep(0.01)
    ours.stop()
    assert "clock" not in {thread.name for thread in threading.enumerate()}
