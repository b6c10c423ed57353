"""What a worker of the portal has beyond Celery's own: its clock."""

from typing import Any

from celery import bootsteps
from celery.worker.components import Pool

from operations.clock import Clock


class ClockThread(bootsteps.StartStopStep):
    """The worker's clock, in its own process: it starts before there is a connection to Redis, and without one."""

    requires = (Pool,)  # so that it stops before the pool, which waits for what runs

    def __init__(self, worker: Any, **_: Any) -> None:
        self.clock = Clock(worker.app.amqp.queues.consume_from)
        super().__init__(worker)

    def start(self, worker: Any) -> None:
        self.clock.start()

    def stop(self, worker: Any) -> None:
        self.clock.stop()
