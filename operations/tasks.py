"""What a worker is called for: one task, which takes one id. Its name stays whatever moves."""

from celery import shared_task

from operations import work
from operations.queue import RUN


@shared_task(name=RUN)
def run_operation(operation_id: str) -> None:
    work.run(operation_id)
