"""Durable work: one worker at a time, nothing lost, everything safe to run twice."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from operations import actions
from operations.models import Operation
from operations.work import Failed, Retry, handler, run, sweep
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
done: list[str] = []


@handler("tests.count")
def count(operation: Operation) -> None:
    done.append(str(operation.pk))


@handler("tests.later")
def later(operation: Operation) -> None:
    raise Retry("vault_sealed", "The vault is sealed.")


@handler("tests.refused")
def refused(operation: Operation) -> None:
    raise Failed("permission_denied", "The vault refused.")


@handler("tests.surprise")
def surprise(operation: Operation) -> None:
    raise RuntimeError("a text that may hold anything: canary")


@pytest.fixture(autouse=True)
def empty() -> None:
    done.clear()


def make(cast: Cast, kind: str) -> Operation:
    return actions.request(kind, account=cast.account, subject_id=cast.account.pk, title=kind, actor=cast.alice)


def test_an_operation_is_done_once(cast: Cast) -> None:
    operation = make(cast, "tests.count")
    assert run(operation.pk) is True
    assert run(operation.pk) is False
    operation.refresh_from_db()
    assert (operation.state, len(done)) == (Operation.State.DONE, 1)


def test_two_workers_at_once_do_it_once(cast: Cast) -> None:
    operation = make(cast, "tests.count")
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        run(operation.pk)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1


def test_a_dead_workers_operation_is_found_when_its_lease_is_over(cast: Cast) -> None:
    operation = make(cast, "tests.count")
    assert Operation.claim(operation.pk) is not None
    assert sweep() == 0
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert sweep() == 1
    assert len(done) == 1


def test_a_worker_that_lost_its_lease_writes_nothing(cast: Cast) -> None:
    operation = make(cast, "tests.count")
    slow = Operation.claim(operation.pk)
    assert slow is not None
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    sweep()
    assert slow.progress(1) is False
    assert slow.fail("late", "Too late.") is False


def test_work_the_vault_is_away_for_waits_and_says_so(cast: Cast) -> None:
    operation = make(cast, "tests.later")
    run(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.error_sentence) == (Operation.State.WAITING, "The vault is sealed.")
    assert operation.run_after > timezone.now()


def test_refused_work_fails_with_its_reason(cast: Cast) -> None:
    operation = make(cast, "tests.refused")
    run(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.error_code) == (Operation.State.FAILED, "permission_denied")


def test_a_surprise_is_tried_five_times_and_its_text_is_kept_nowhere(
    cast: Cast, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    operation = make(cast, "tests.surprise")
    for _ in range(5):
        Operation.objects.filter(pk=operation.pk).update(run_after=timezone.now())
        run(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.attempts) == (Operation.State.FAILED, 5)
    assert "canary" not in operation.error_sentence + capfd.readouterr().err + caplog.text


def test_a_rolled_back_request_leaves_no_operation(cast: Cast) -> None:
    def act() -> None:
        with transaction.atomic():
            make(cast, "tests.count")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert not Operation.objects.filter(kind="tests.count").exists()


def test_there_is_one_task_and_it_takes_an_id() -> None:
    import inspect

    from kmsportal.celery import app

    app.loader.import_default_modules()
    ours = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    assert set(ours) == {"operations.run"}
    assert list(inspect.signature(ours["operations.run"].run).parameters) == ["operation_id"]
