"""Threads beside this one for calls to servers, which a process that is told to stop does not wait for.

A ThreadPoolExecutor's are waited for whatever happens, at the interpreter's end too: a vault that sends its answer in drops
would keep the process for as long as an answer may take.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
_Job = tuple["Future[Any]", Callable[[], Any]]


class Helpers:
    """At most so many threads, each begun when there is work for it; where none can be begun, the work is done here.

    A context: left in any usual way, all work is done.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._futures: list[Future[Any]] = []
        self._threads = 0

    def submit(self, call: Callable[..., Result], *given: Any) -> Future[Result]:
        """Have it called beside us; whatever it raises comes with the result."""
        future: Future[Result] = Future()
        job = (future, lambda: call(*given))
        if self._threads < self._most:
            with suppress(RuntimeError):  # this machine has no more just now
                threading.Thread(target=self._help, name="helper", daemon=True).start()
                self._threads += 1
        if not self._threads:
            _do(job)
            return future
        self._futures.append(future)
        self._jobs.put(job)
        return future

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for _thread in range(self._threads):
            self._jobs.put(None)
        if kind is None or issubclass(kind, Exception):  # else the process ends, and they with it
            wait(self._futures)

    def _help(self) -> None:
        while (job := self._jobs.get()) is not None:
            _do(job)


def _do(job: _Job) -> None:
    future, call = job
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 it is raised where the result is asked for
        future.set_exception(error)
