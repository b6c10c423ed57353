"""Asking for durable work, doing it, and finding what was lost. Knows no domain: handlers register under a name."""

import random
import uuid
from collections.abc import Callable

import structlog
from django.db import transaction

from accounts.models import Account, User
from operations.models import Operation

log = structlog.get_logger()

Handler = Callable[[Operation], None]
_handlers: dict[str, Handler] = {}
MAX_UNEXPECTED = 5  # attempts that end in an exception nobody foresaw


class TryLater(Exception):
    """The work can be done, but not now (the vault is away); it is taken up again by itself."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class CannotBeDone(Exception):
    """The work was refused for good; somebody has to look at it."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


def handler(kind: str) -> Callable[[Handler], Handler]:
    """Register the function that does operations of this kind. It must be safe to run twice."""

    def register(function: Handler) -> Handler:
        _handlers[kind] = function
        return function

    return register


def request(
    kind: str,
    *,
    account: Account,
    subject_id: uuid.UUID,
    title: str,
    actor: User | None,
    queue: str = Operation.Queue.INTERACTIVE,
    total: int = 1,
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
        _handlers[operation.kind](operation)
    except TryLater as later:
        operation.wait(_backoff(operation.attempts), later.code, later.sentence)
    except CannotBeDone as refusal:
        operation.fail(refusal.code, refusal.sentence)
        log.warning("operation_failed", kind=operation.kind, operation=str(operation.pk), code=refusal.code)
    except Exception as error:
        # Its text may hold anything, so only its type is kept.
        log.error("operation_error", kind=operation.kind, operation=str(operation.pk), error=type(error).__name__)
        sentence = "Something failed inside the portal; its log has the type of the error."
        if operation.attempts >= MAX_UNEXPECTED:
            operation.fail("internal_error", sentence)
        else:
            operation.wait(_backoff(operation.attempts), "internal_error", sentence)
    else:
        operation.finish()
    return True


def sweep(limit: int = 200) -> int:
    """Do everything that is due, interactive work first. Returns how many operations were taken."""
    due = Operation.objects.due().order_by("-queue", "requested_at").values_list("pk", flat=True)[:limit]
    return sum(run(pk) for pk in list(due))


def _backoff(attempts: int) -> float:
    """Seconds until the next attempt: 1, 2, 4 … 60, each spread by half so that many do not return together."""
    return min(60.0, 2.0 ** min(attempts - 1, 6)) * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)
