"""Asking for durable work, doing it, and finding what was lost. Knows no domain: handlers register under a name."""

import random
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Account, User
from operations import pressure
from operations.models import Operation

log = structlog.get_logger()

Handler = Callable[[Operation], None]
Result = TypeVar("Result")
MAX_UNEXPECTED = 5  # attempts in a row that end in an exception nobody foresaw
SWEPT = (Operation.Queue.INTERACTIVE, Operation.Queue.BULK)  # the shred worker sweeps its own queue
PAUSE_SECONDS = 0.5  # between two looks at whether people still wait for the vault
PAUSES = 10  # of these between two steps, at most
SLICE_SECONDS = 120.0  # one turn of long work; then others have theirs, and the queue's time limit is never met


@dataclass(frozen=True, slots=True)
class _Kind:
    function: Handler
    cancellable: bool
    admin: bool


_kinds: dict[str, _Kind] = {}
_chores: list[Callable[[], object]] = []


class TryLater(Exception):
    """The work can be done, but not now (the vault is away); it is taken up again by itself."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class WaitUntil(Exception):
    """This part is done and the next one has its time: nothing went wrong. code and sentence say what is waited for."""

    def __init__(self, until: datetime, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.until, self.code, self.sentence = until, code, sentence


class Cancelled(Exception):
    """Somebody asked for the end of it, and this is a place where ending leaves nothing half done."""


class LeaseLost(Exception):
    """Another worker has this operation now; whatever it does is the same."""


class NotPossible(Exception):
    """The operation is not in a state for this; the text says why."""


class CannotBeDone(Exception):
    """The work was refused for good; somebody has to look at it."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


def handler(kind: str, *, cancellable: bool = False, admin: bool = False) -> Callable[[Handler], Handler]:
    """Register the function that does operations of this kind. It must be safe to run twice.

    cancellable: it calls `breathe` where ending early leaves nothing half done. admin: an Administrator asks for it, so only
    an Administrator ends or resumes it.
    """

    def register(function: Handler) -> Handler:
        _kinds[kind] = _Kind(function, cancellable, admin)
        return function

    return register


def chore(function: Callable[[], Result]) -> Callable[[], Result]:
    """Register what beat starts now and then, so that the sweep command does it too. It must be safe to do at any time."""
    _chores.append(function)
    return function


def do_chores() -> None:
    """Everything that was registered; one that fails is logged and keeps no other from being done."""
    for function in _chores:
        try:
            function()
        except Exception as error:
            log.error("chore_error", chore=function.__name__, error=type(error).__name__)


def request(
    kind: str,
    *,
    account: Account,
    subject_id: uuid.UUID,
    title: str,
    actor: User | None,
    queue: str = Operation.Queue.INTERACTIVE,
    total: int = 1,
    lane: str = "",
    run_after: datetime | None = None,
) -> Operation:
    """Write the operation, in the caller's transaction, and wake a worker once that is committed."""
    operation = Operation.objects.create(
        account=account,
        kind=kind,
        subject_id=subject_id,
        title=title[:200],
        requested_by=actor,
        queue=queue,
        total=total,
        lane=lane,
        run_after=run_after or timezone.now(),
    )
    transaction.on_commit(lambda: wake(operation))
    return operation


def wake(operation: Operation) -> None:
    """Tell a worker. A dead queue is no error: the sweeper finds the row."""
    from operations.tasks import publish

    publish(str(operation.pk), operation.queue)


def run(operation_id: uuid.UUID | str) -> bool:
    """Do one operation if it is due. Returns whether it was ours to do; never raises what a handler raised."""
    operation = Operation.claim(operation_id)
    if operation is None:
        return False
    try:
        if operation.cancel_asked_at is not None and is_cancellable(operation):
            raise Cancelled
        _kinds[operation.kind].function(operation)
    except WaitUntil as pause:
        operation.wait(pause.until, pause.code, pause.sentence, trouble=False)
    except TryLater as later:
        operation.wait(_backoff(operation.troubles + 1), later.code, later.sentence)
    except CannotBeDone as refusal:
        operation.fail(refusal.code, refusal.sentence)
        log.warning("operation_failed", kind=operation.kind, operation=str(operation.pk), code=refusal.code)
    except Cancelled:
        operation.end_cancelled()
    except LeaseLost:
        log.warning("operation_lease_lost", kind=operation.kind, operation=str(operation.pk))
    except Exception as error:
        _unforeseen(operation, error)
    else:
        operation.finish()
    return True


def _unforeseen(operation: Operation, error: Exception) -> None:
    """Try again, a few times. The error's text may hold anything, so only its type is kept."""
    log.error("operation_error", kind=operation.kind, operation=str(operation.pk), error=type(error).__name__)
    sentence = "Something failed inside the portal; its log has the type of the error."
    if operation.troubles + 1 >= MAX_UNEXPECTED:
        operation.fail("internal_error", sentence)
    else:
        operation.wait(_backoff(operation.troubles + 1), "internal_error", sentence)


def breathe(operation: Operation, done: int, total: int | None = None, *, failed: int = 0) -> None:
    """Between two steps: write progress, keep the lease, end when asked to, and give way to people.

    Bulk work pauses here for some seconds while people's own vault calls are slow; then it does one step, so that it ends
    at last whatever the load. A long turn ends here: the handler is called again and goes on from there.
    Raises LeaseLost, Cancelled, WaitUntil.
    """
    for _ in range(PAUSES):
        if not operation.progress(done, total, failed):
            raise LeaseLost
        if is_cancellable(operation) and operation.is_cancel_asked():
            raise Cancelled
        if time.monotonic() - operation.turn_began > SLICE_SECONDS:
            raise WaitUntil(timezone.now(), "next_turn", "It goes on in a moment.")
        if operation.queue == Operation.Queue.INTERACTIVE or not pressure.is_high():
            return
        time.sleep(PAUSE_SECONDS)


def sweep(limit: int = 200, queues: Collection[str] = SWEPT) -> int:
    """Do everything that is due, interactive work first. Returns how many operations were taken."""
    due = Operation.objects.due().filter(queue__in=queues).order_by("-queue", "requested_at")
    return sum(run(pk) for pk in list(due.values_list("pk", flat=True)[:limit]))


def is_cancellable(operation: Operation) -> bool:
    """Whether operations of this kind can be ended early."""
    kind = _kinds.get(operation.kind)
    return kind is not None and kind.cancellable


def is_for_administrators(operation: Operation) -> bool:
    kind = _kinds.get(operation.kind)
    return kind is not None and kind.admin


def is_resumable(operation: Operation) -> bool:
    """Whether it can be taken up again. What cannot be cancelled and ended so was taken back by whoever asked for it."""
    taken_back = operation.state == Operation.State.CANCELLED and not is_cancellable(operation)
    return operation.is_resumable and not taken_back


@transaction.atomic
def cancel(operation: Operation, *, actor: User) -> None:
    """End an operation at its next safe place; one that nobody works on ends at once. Raises NotPossible."""
    locked = Operation.objects.select_for_update(of=("self",)).select_related("account").get(pk=operation.pk)
    if locked.is_finished:
        raise NotPossible("It has ended already.")
    if not is_cancellable(locked):
        raise NotPossible("Work of this kind is short, or must not stay half done; it cannot be cancelled.")
    if locked.cancel_asked_at is not None:
        return
    Operation.objects.filter(pk=locked.pk).update(cancel_asked_at=timezone.now(), run_after=timezone.now())
    _audit(locked, actor, "CANCEL", f"Cancelling was asked for: {locked.title}")
    transaction.on_commit(lambda: wake(locked))


@transaction.atomic
def resume(operation: Operation, *, actor: User) -> None:
    """Take up a failed or cancelled operation where it stopped. Raises NotPossible."""
    locked = Operation.objects.select_for_update(of=("self",)).select_related("account").get(pk=operation.pk)
    if not is_resumable(locked):
        raise NotPossible("Only what failed or was cancelled can be resumed; what was taken back is asked for again.")
    Operation.objects.filter(pk=locked.pk).update(
        state=Operation.State.PENDING,
        run_after=timezone.now(),
        cancel_asked_at=None,
        finished_at=None,
        troubles=0,
        error_code="",
        error_sentence="",
    )
    _audit(locked, actor, "RESUME", f"Taken up again: {locked.title}")
    transaction.on_commit(lambda: wake(locked))


def _audit(operation: Operation, actor: User, action: str, message: str) -> None:
    audit.record(
        operation.account,
        actor=actor,
        type="operation",
        action=action,
        subject_id=operation.subject_id,
        message=message,
        properties={"operation": str(operation.pk)},
    )


def _backoff(troubles: int) -> datetime:
    """When to try again: after 1, 2, 4 … 60 s, each spread by a quarter so that many do not return together."""
    seconds = min(60.0, 2.0 ** min(troubles - 1, 6)) * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)
    return timezone.now() + timedelta(seconds=seconds)
