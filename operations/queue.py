"""Telling a worker that there is work: the id of an operation, sent to a task by its name."""

from concurrent.futures import ThreadPoolExecutor

import structlog
from celery import current_app
from django.db import transaction

from operations.models import Operation, OperationQuerySet

log = structlog.get_logger()

RUN = "operations.run"  # the task that takes the id (operations/tasks.py)
WITHIN_SECONDS = 3.0  # the broker has to have taken it; a connection has limits for each piece of an answer only

_publisher = ThreadPoolExecutor(1, "publisher")


def publish(operation_id: str, queue: str) -> bool:
    """Queue an operation's id. False: no broker took it in time, which is logged; a worker's clock does the rest, as it does all
    of the watch's."""
    if queue == Operation.Queue.WATCH:
        return False
    sent = _publisher.submit(current_app.send_task, RUN, (operation_id,), queue=queue, retry=False)
    try:
        sent.result(WITHIN_SECONDS)
    except Exception as error:  # whatever it answers: no work depends on it
        sent.cancel()
        log.warning("queue_unreachable", operation=operation_id, error=type(error).__name__)
        return False
    return True


def publish_on_commit(operation: Operation) -> None:
    """Wake a worker for it once the caller's transaction is committed."""
    transaction.on_commit(lambda: publish(str(operation.pk), operation.queue))


def publish_due(due: OperationQuerySet) -> bool:
    """Queue again what is due, at most 500 at once: a lost message, a dead worker's work, a wait that is over.

    False: the broker did not take one, and was not asked for the others.
    """
    return all(publish(str(operation_id), queue) for operation_id, queue in due.values_list("pk", "queue")[:500])
