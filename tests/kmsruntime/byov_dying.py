"""`python -m tests.kmsruntime.byov_dying STEP DIRECTORY`: one sync that kills itself (SIGKILL) at a chosen step.

Steps are counted before every change of a name under the directory (what `kmsruntime.disk.files` makes durable: a file that
replaces another, one that is removed), which is after the one before it, and after every question to the portal that
changes something there. A run that has no such step ends by itself and prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmsruntime.container import Container
from kmsruntime.disk.home import Home
from kmsruntime.errors import RuntimeProblem
from kmsruntime.remote.portal import Portal
from kmsruntime.sync import Synchroniser


class Steps:
    """Counts, and ends this process without a word at `die_at`."""

    def __init__(self, die_at: int) -> None:
        self.die_at, self.count = die_at, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.step()
            return function(*args, **kwargs)

        return stepping

    def after(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self.step()
            return result

        return stepping


def main() -> None:
    steps = Steps(int(sys.argv[1]))
    os.replace = steps.before(os.replace)
    os.unlink = steps.before(os.unlink)
    Portal.post = steps.after(Portal.post)  # type: ignore[method-assign]
    until = time.monotonic() + 60
    code = 0
    try:
        Synchroniser(Container(Home(Path(sys.argv[2]))), lambda pause: _slept(pause, until), lambda line: None).sync()
    except RuntimeProblem as problem:
        print(problem.code, file=sys.stderr)
        code = problem.exit_code
    print(steps.count)
    sys.exit(code)


def _slept(pause: float, until: float) -> bool:
    time.sleep(min(pause, 0.2))
    return time.monotonic() < until


if __name__ == "__main__":
    main()
