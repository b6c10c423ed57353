"""The queue's front door: tasks take ids and nothing else."""

import structlog
from celery import shared_task
from kombu.exceptions import OperationalError

from operations import actions
from operations.models import Operation, OperationQuerySet

log = structlog.get_logger()


def publish(operation_id: str, queue: str) -> None:
    """Queue an operation's id; a dead broker is logged, and the sweeper does the rest."""
    try:
        run_operation.apply_async((operation_id,), queue=queue, retry=False)
    except (OperationalError, OSError):
        log.warning("queue_unreachable", operation=operation_id)


@shared_task(name="operations.run")
def run_operation(operation_id: str) -> None:
    actions.run(operation_id)


@shared_task(name="operations.sweep")
def sweep_operations() -> None:
    """Queue again what is due: a lost message, a dead worker's work, a wait that is over."""
    _publish_due(Operation.objects.due().filter(queue__in=actions.SWEPT))


@shared_task(name="operations.sweep_shredding")
def sweep_shredding() -> None:
    """The same for the shred worker, less often: it may not run for weeks, and messages for it would pile up."""
    _publish_due(Operation.objects.due().filter(queue=Operation.Queue.SHRED))


def _publish_due(due: OperationQuerySet) -> None:
    for operation_id, queue in due.values_list("pk", "queue")[:500]:
        publish(str(operation_id), queue)
