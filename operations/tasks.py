"""What a worker is called for: one task, which takes one id. Its name stays whatever moves."""

from typing import Any

from celery import shared_task

from operations import work
from operations.queue import RUN


@shared_task(name=RUN, bind=True)
def run_operation(task: Any, operation_id: str) -> None:
    """Whoever writes into a queue may name any id; what is for other workers, whose credentials this one has not, is theirs."""
    work.run(operation_id, queues=tuple(task.app.amqp.queues.consume_from))
