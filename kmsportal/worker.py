"""What a worker of the portal is beyond Celery's own: its clock, the one task it knows, and that no message ends it."""

import warnings
from typing import Any

from celery import bootsteps
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.components import Pool
from celery.worker.consumer import Consumer as CeleryConsumer

from operations.clock import Clock
from operations.queue import RUN


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


class OneTask(bootsteps.Step):
    """Celery brings tasks of its own that call others: whoever writes to the queue names one task, and none of those."""

    def __init__(self, worker: Any, **_: Any) -> None:
        for name in set(worker.app.tasks) - {RUN}:
            worker.app.tasks.unregister(name)
        super().__init__(worker)


class Consumer(CeleryConsumer):
    """Whatever Redis answers, be it no message at all: the worker connects anew, as if the connection had been lost."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connection_errors = (Exception,)
        # At each loss Celery advises to end what runs. A thread cannot be ended, and a lease keeps others from doing it too.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
