"""Telling a worker that there is work: the id of an operation, sent to a task by its name."""

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from operations.models import Operation, OperationQuerySet

log = structlog.get_logger()

RUN = "operations.run"  # the task that takes the id (operations/tasks.py)
SWEPT = (Operation.Queue.INTERACTIVE, Operation.Queue.BULK)  # the shred worker sweeps its own queue


def publish(operation_id: str, queue: str) -> None:
    """Queue an operation's id; a dead broker is logged, and the sweeper does the rest."""
    try:
        current_app.send_task(RUN, (operation_id,), queue=queue, retry=False)
    except (OperationalError, OSError):
        log.warning("queue_unreachable", operation=operation_id)


def publish_on_commit(operation: Operation) -> None:
    """Wake a worker for it once the caller's transaction is committed."""
    transaction.on_commit(lambda: publish(str(operation.pk), operation.queue))


def publish_due(due: OperationQuerySet) -> None:
    """Queue again what is due, at most 500 at once: a lost message, a dead worker's work, a wait that is over."""
    for operation_id, queue in due.values_list("pk", "queue")[:500]:
        publish(str(operation_id), queue)
