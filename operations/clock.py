"""The clock: a thread in each worker's process that keeps the schedules and does what the queue does not deliver.

It needs the database and no queue: whoever holds Redis delays work and repeats it, and keeps none of it from being done.
Times are monotonic seconds in memory. Two workers of one queue have two clocks: whatever they do is safe to do twice.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Collection
from datetime import timedelta

from django.db import close_old_connections, connections

from kmscore.backoff import jittered
from operations import work
from operations.models import Operation
from operations.queue import publish_due
from operations.work import Schedule, attempt

SWEEP_SECONDS = 5.0
UNDELIVERED = timedelta(seconds=30)  # due for so long: no worker was told, or all are busy
SPREAD = 0.1  # of a schedule's seconds, so that two clocks do not run in step
FIRST_SECONDS = 60.0  # by then everything was done once, for a worker may live for less than a schedule's time
TURN_SECONDS = 20.0  # of an operation: the login watch keeps its 60 s, whatever the clock has to do itself
STOP_SECONDS = 5.0  # what a job has to end in; afterwards it ends with the process, as if that was killed


class Clock:
    """What has its time comes first, the longest overdue of it; between, one after the other, what was not delivered."""

    def __init__(self, queues: Collection[str], sweep_seconds: float = SWEEP_SECONDS) -> None:
        """queues: those that the worker works for. sweep_seconds: between two looks at what nobody told it of."""
        self._queues = tuple(queues)
        self._schedules = [Schedule(self.sweep, sweep_seconds, ""), *work.schedules(self._queues)]
        now = time.monotonic()
        self._due = [now + jittered(min(one.seconds, FIRST_SECONDS) / 2, 1.0) for one in self._schedules]
        self._undelivered: deque[uuid.UUID] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """What it is at may end; nothing else begins."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(self.turn()):
            pass
        connections.close_all()

    def turn(self) -> float:
        """Do one thing, if there is one; returns how many seconds there is nothing to do. Raises nothing."""
        due = min(self._due)
        wait = due - time.monotonic()
        if wait <= 0:
            self._keep(self._due.index(due))
        elif self._undelivered:
            self._attempt(self._run_undelivered)
        else:
            return wait
        return 0.0

    def _keep(self, number: int) -> None:
        schedule = self._schedules[number]
        self._attempt(schedule.job)
        self._due[number] = time.monotonic() + jittered(schedule.seconds, SPREAD)

    def sweep(self) -> None:
        """Tell workers of what is due; what that does not help, this clock does itself."""
        ours = Operation.objects.filter(queue__in=self._queues)
        told = publish_due(ours.due())
        left = ours.due(since=UNDELIVERED if told else timedelta())
        self._undelivered = deque(left.order_by("run_after").values_list("pk", flat=True))

    def _run_undelivered(self) -> None:
        work.run(self._undelivered.popleft(), TURN_SECONDS)

    @staticmethod
    def _attempt(job: work.Job) -> None:
        close_old_connections()
        attempt(job)
        close_old_connections()
