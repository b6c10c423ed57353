"""What a worker is called for: tasks take ids and nothing else. Their names stay whatever moves."""

from celery import shared_task

from operations import work
from operations.models import Operation
from operations.queue import RUN, SWEPT, publish_due


@shared_task(name=RUN)
def run_operation(operation_id: str) -> None:
    work.run(operation_id)


@shared_task(name="operations.sweep")
def sweep_operations() -> None:
    publish_due(Operation.objects.due().filter(queue__in=SWEPT))


@shared_task(name="operations.sweep_shredding")
def sweep_shredding() -> None:
    """The same for the shred worker, less often: it may not run for weeks, and messages for it would pile up."""
    publish_due(Operation.objects.due().filter(queue=Operation.Queue.SHRED))
