"""Doing operations: what is registered to do them, one turn of one, and what a turn may end with.

A handler re-reads everything from rows, is safe to run twice and may be killed anywhere. Between two steps it calls
`checkpoint`, the one place where progress, lease, cancelling, courtesy to people and the end of a turn meet.
"""

import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from django.db.models import Case, Value, When
from django.utils import timezone

from kmscore.backoff import backoff_seconds
from operations import load
from operations.models import Operation

log = structlog.get_logger()

Handler = Callable[[Operation], None]
Job = Callable[[], object]
AnyJob = TypeVar("AnyJob", bound=Job)
MAX_UNEXPECTED = 5  # attempts in a row that end in an exception nobody foresaw
RETRY_SECONDS = (1.0, 60.0)  # least and most before the next attempt after trouble
PAUSE_SECONDS = 0.5  # between two questions whether people still wait for the vault
PAUSES = 10  # of these between two steps, at most
TURN_SECONDS = 120.0  # one turn of long work; then others have theirs
SWEPT = (Operation.Queue.INTERACTIVE, Operation.Queue.BULK)  # other work takes the credentials of another process


@dataclass(frozen=True, slots=True)
class _Kind:
    function: Handler
    queue: str
    cancellable: bool
    admin: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a worker of this queue does every so many seconds (operations/clock.py)."""

    job: Job
    seconds: float
    queue: str


_kinds: dict[str, _Kind] = {}
_schedules: list[Schedule] = []


class Retry(Exception):
    """The work can be done, but not now (the vault is away); it is taken up again by itself."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class ResumeAt(Exception):
    """This part is done and the next one has its time: nothing went wrong. code and sentence say what is waited for."""

    def __init__(self, until: datetime, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.until, self.code, self.sentence = until, code, sentence


class Failed(Exception):
    """The work was refused for good; somebody has to look at it."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class Cancelled(Exception):
    """Somebody asked for the end of it, and this is a place where ending leaves nothing half done."""


class LeaseLost(Exception):
    """Another worker has this operation now; whatever it does is the same."""


# -- what is registered ------------------------------------------------------------------------------------------------


def handler(
    kind: str, *, queue: str = Operation.Queue.INTERACTIVE, cancellable: bool = False, admin: bool = False
) -> Callable[[Handler], Handler]:
    """Register the function that does operations of this kind. It must be safe to run twice.

    queue: whose work it is.
    cancellable: it calls `checkpoint` where ending early leaves nothing half done. admin: an Administrator asks for it, so
    only an Administrator ends or resumes it.
    """

    def register(function: Handler) -> Handler:
        _kinds[kind] = _Kind(function, queue, cancellable, admin)
        return function

    return register


def queue_of(kind: str) -> str:
    """The queue of operations of this kind."""
    return _kinds[kind].queue


def periodic(seconds: float, queue: str = Operation.Queue.INTERACTIVE) -> Callable[[AnyJob], AnyJob]:
    """Register what a worker of this queue does every so many seconds, and the sweep command at once.

    It must be safe to do at any time, and by several workers at a time: each has a clock of its own.
    """

    def register(job: AnyJob) -> AnyJob:
        _schedules.append(Schedule(job, seconds, queue))
        return job

    return register


def schedules(queues: Collection[str]) -> list[Schedule]:
    """What is registered for the workers of these queues."""
    return [schedule for schedule in _schedules if schedule.queue in queues]


def run_periodic(queues: Collection[str] = SWEPT) -> None:
    """Everything that is registered for these queues, now."""
    for schedule in schedules(queues):
        attempt(schedule.job)


def attempt(job: Job) -> None:
    """Do it. What it raises is logged by its type and keeps nothing else from being done."""
    try:
        job()
    except Exception as error:
        log.error("periodic_error", job=job.__name__, error=type(error).__name__)


def is_cancellable(operation: Operation) -> bool:
    """Whether operations of this kind can be ended early."""
    kind = _kinds.get(operation.kind)
    return kind is not None and kind.cancellable


def is_for_administrators(operation: Operation) -> bool:
    kind = _kinds.get(operation.kind)
    return kind is not None and kind.admin


# -- doing it ----------------------------------------------------------------------------------------------------------


def run(
    operation_id: uuid.UUID | str, turn_seconds: float = TURN_SECONDS, queues: Collection[str] = Operation.Queue.values
) -> bool:
    """Do one operation if it is due, and of these queues, for one turn. Returns whether it was ours to do; never raises what a
    handler raised."""
    operation = Operation.claim(operation_id, queues)
    if operation is None:
        return False
    operation.turn_ends = time.monotonic() + turn_seconds
    try:
        _check_request(operation)
        if operation.cancel_asked_at is not None and is_cancellable(operation):
            raise Cancelled
        _kinds[operation.kind].function(operation)
    except ResumeAt as pause:
        operation.wait(pause.until, pause.code, pause.sentence, trouble=False)
    except Retry as later:
        operation.wait(_next_attempt(operation), later.code, later.sentence)
    except Failed as refusal:
        operation.fail(refusal.code, refusal.sentence)
        log.warning("operation_failed", kind=operation.kind, operation=str(operation.pk), code=refusal.code)
    except Cancelled:
        operation.end_cancelled()
    except LeaseLost:
        log.warning("operation_lease_lost", kind=operation.kind, operation=str(operation.pk))
    except Exception as error:
        _end_unexpected(operation, error)
    else:
        operation.finish()
    return True


def _check_request(operation: Operation) -> None:
    """Raises Failed for what nobody asked for, or not lately, and LeaseLost."""
    if not operation.has_valid_signature():
        log.error("operation_forged", kind=operation.kind, operation=str(operation.pk))
        raise Failed(
            "record_forged", "This request was changed outside the portal, or made there: nothing of it is done."
        )
    if not operation.take_up():
        if timezone.now() <= operation.current_until:
            raise LeaseLost
        raise Failed(
            "request_ended", "No worker took this up within a day, so it is not done any more. Resume asks anew."
        )


def _end_unexpected(operation: Operation, error: Exception) -> None:
    """Try again, a few times. The error's text may hold anything, so only its type is kept."""
    log.error("operation_error", kind=operation.kind, operation=str(operation.pk), error=type(error).__name__)
    sentence = "Something failed inside the portal; its log has the type of the error."
    if operation.troubles + 1 >= MAX_UNEXPECTED:
        operation.fail("internal_error", sentence)
    else:
        operation.wait(_next_attempt(operation), "internal_error", sentence)


def _next_attempt(operation: Operation) -> datetime:
    return timezone.now() + timedelta(seconds=backoff_seconds(operation.troubles, *RETRY_SECONDS))


def checkpoint(operation: Operation, done: int, total: int | None = None, *, failed: int = 0) -> None:
    """Between two steps: write progress, keep the lease, end when asked to, and give way to people.

    Bulk work pauses here for some seconds while people's own vault calls are slow; then it does one step, so that it ends
    at last whatever the load. A long turn ends here: the handler is called again and goes on from there.
    Raises LeaseLost, Cancelled, ResumeAt.
    """
    for _ in range(PAUSES):
        if not operation.progress(done, total, failed):
            raise LeaseLost
        if is_cancellable(operation) and operation.is_cancel_asked():
            raise Cancelled
        if time.monotonic() > operation.turn_ends:
            raise ResumeAt(timezone.now(), "next_turn", "It goes on in a moment.")
        if operation.queue in (Operation.Queue.INTERACTIVE, Operation.Queue.WATCH) or not load.is_high():
            return
        time.sleep(PAUSE_SECONDS)


def sweep(limit: int = 200, queues: Collection[str] = (*SWEPT, Operation.Queue.WATCH)) -> int:
    """Do everything that is due, what somebody waits for first. Returns how many operations were taken."""
    first = Case(When(queue=Operation.Queue.INTERACTIVE, then=Value(0)), default=Value(1))
    due = Operation.objects.due().filter(queue__in=queues).order_by(first, "requested_at")
    return sum(run(pk) for pk in list(due.values_list("pk", flat=True)[:limit]))
