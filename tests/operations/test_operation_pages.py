"""One operation: how far it is, ending it early, taking it up again, its receipt."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import AuditEntry, Role, User
from kmscore.refused import Refused
from operations import actions, work
from operations.models import Operation
from operations.receipts import has_valid_signature
from operations.work import Cancelled, Failed, ResumeAt, checkpoint, handler, sweep
from tests.conftest import PASSWORD, Cast, client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
steps: list[int] = []


@handler("tests.long", cancellable=True)
def long(operation: Operation) -> None:
    for done in range(operation.done, 4):
        steps.append(done)
        checkpoint(operation, done + 1)
        if done == 1 and "stop" in operation.details:
            raise Failed("in_the_way", "Something is in the way.")


handler("tests.bulky", queue=Operation.Queue.BULK, cancellable=True)(long)


@handler("tests.short")
def short(operation: Operation) -> None:
    operation.note(name="Production", rows=[{"key": "one", "state": "done"}])


@handler("tests.planned", cancellable=True)
def planned(operation: Operation) -> None:
    raise ResumeAt(timezone.now() + timedelta(hours=1), "settling", "The second part has its time.")


@pytest.fixture(autouse=True)
def empty() -> None:
    steps.clear()


def asked(cast: Cast, kind: str, **more: Any) -> Operation:
    return actions.request(
        kind, account=cast.account, subject_id=cast.account.pk, title="Long work", actor=cast.alice, total=4, **more
    )


def page(cast: Cast, name: str, operation: Operation) -> str:
    return reverse(f"operations:operation_{name}", args=[cast.account.code, operation.pk])


def test_cancelled_before_it_began_it_never_runs(cast: Cast) -> None:
    operation = asked(cast, "tests.long")
    assert cast.client("alice").post(page(cast, "cancel", operation)).status_code == 302
    sweep()
    operation.refresh_from_db()
    assert (operation.state, steps) == (Operation.State.CANCELLED, [])


def test_cancelled_on_the_way_it_ends_at_the_next_safe_place(cast: Cast) -> None:
    operation = asked(cast, "tests.long")
    claimed = Operation.claim(operation.pk)
    assert claimed is not None
    actions.cancel(operation, actor=cast.alice)
    with pytest.raises(Cancelled):
        checkpoint(claimed, 2)


def test_cancelled_while_it_waits_it_ends_at_once(cast: Cast) -> None:
    operation = asked(cast, "tests.planned")
    sweep()
    operation.refresh_from_db()
    assert (operation.state, operation.troubles) == (Operation.State.WAITING, 0)
    actions.cancel(operation, actor=cast.alice)
    sweep()
    operation.refresh_from_db()
    assert operation.state == Operation.State.CANCELLED


def test_short_work_is_not_cancelled(cast: Cast) -> None:
    operation = asked(cast, "tests.short")
    with pytest.raises(Refused):
        actions.cancel(operation, actor=cast.alice)


def test_resumed_it_goes_on_where_it_stopped(cast: Cast) -> None:
    operation = asked(cast, "tests.long")
    Operation.objects.update(details={"stop": True})
    sweep()
    operation.refresh_from_db()
    assert (operation.state, operation.done) == (Operation.State.FAILED, 2)
    alice = cast.client("alice")
    assert "Resume it" in alice.get(page(cast, "detail", operation)).content.decode()
    assert alice.post(page(cast, "resume", operation)).status_code == 302
    sweep()
    operation.refresh_from_db()
    assert (operation.state, steps) == (Operation.State.DONE, [0, 1, 2, 3])
    deeds = set(AuditEntry.objects.filter(type="operation").values_list("action", flat=True))
    assert deeds == {"RESUME"}


def test_a_receipt_bears_the_portals_signature(cast: Cast) -> None:
    operation = asked(cast, "tests.short")
    alice = cast.client("alice")
    assert alice.get(page(cast, "receipt", operation)).status_code == 404
    sweep()
    receipt = alice.get(page(cast, "receipt", operation)).json()
    assert (receipt["state"], receipt["requested_by"]) == ("done", cast.alice.email)
    assert receipt["details"]["rows"] == [{"key": "one", "state": "done"}]
    assert has_valid_signature(receipt)
    assert not has_valid_signature(receipt | {"requested_by": "somebody else"})


def test_the_page_shows_progress_and_what_is_left(cast: Cast) -> None:
    operation = asked(cast, "tests.long")
    claimed = Operation.claim(operation.pk)
    assert claimed is not None
    Operation.objects.update(started_at=timezone.now() - timedelta(minutes=3))
    claimed.progress(120, 480, failed=2)
    shown = cast.client("bob").get(page(cast, "detail", operation)).content.decode()
    assert "120 of 480" in shown
    assert "2 failed" in shown
    assert "about 9 min left" in shown
    assert "Cancel it" not in shown, "he may only read"


def test_the_same_lane_is_worked_on_one_at_a_time(cast: Cast) -> None:
    first, second = asked(cast, "tests.long", exclusive_group="keys"), asked(cast, "tests.long", exclusive_group="keys")
    assert Operation.claim(first.pk) is not None
    assert Operation.claim(second.pk) is None
    Operation.objects.filter(pk=first.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert Operation.claim(second.pk) is not None
    assert Operation.claim(first.pk) is None


def test_bulk_work_gives_way_while_people_wait_for_the_vault(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    from operations import load
    from operations.models import Load

    operation = asked(cast, "tests.bulky")
    claimed = Operation.claim(operation.pk)
    assert claimed is not None
    for _ in range(20):
        load.record_wait(0.4)
    assert load.is_high()
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            Load.objects.update(until=timezone.now())

    monkeypatch.setattr(work.time, "sleep", sleep)
    checkpoint(claimed, 1)
    assert len(waited) == 3


def test_a_long_turn_ends_so_that_others_have_theirs(cast: Cast) -> None:
    claimed = Operation.claim(asked(cast, "tests.long").pk)
    assert claimed is not None
    claimed.turn_ends = time.monotonic()
    with pytest.raises(ResumeAt):
        checkpoint(claimed, 1)


def test_what_concerns_the_whole_account_is_its_administrators(cast: Cast) -> None:
    """Its details name environments that not every member sees."""
    operation = asked(cast, "tests.short")
    sweep()
    bob, alice = cast.client("bob"), cast.client("alice")
    assert "Production" not in bob.get(page(cast, "detail", operation)).content.decode()
    assert bob.get(page(cast, "receipt", operation)).status_code == 403
    assert "Production" in alice.get(page(cast, "detail", operation)).content.decode()
    member = User.objects.create_user("standard@example.com", PASSWORD)
    accounts.add_member(cast.account, member, [Role.objects.get(name="Standard User")], actor="tests")
    standard = client_of(member)
    failed = asked(cast, "tests.long")
    assert standard.post(page(cast, "cancel", failed)).status_code == 403
    assert standard.post(page(cast, "resume", failed)).status_code == 403


@pytest.mark.parametrize("rows", [[{"values": 1}], [{"items": 3}, "a text"], ["a"], [None], [[1]], [1, 2]])
def test_facts_of_any_shape_are_shown(cast: Cast, rows: list[Any]) -> None:
    operation = asked(cast, "tests.short")
    Operation.objects.filter(pk=operation.pk).update(details={"rows": rows})
    assert cast.client("alice").get(page(cast, "detail", operation)).status_code == 200
