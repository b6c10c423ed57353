"""A worker's process that kills itself (SIGKILL) at a chosen step of a sweep.

`python -m tests.dying_worker` reads lines `N queue …`, or `N after_restore DIRECTORY NAME`, and does each in a fork of
itself, which has Django loaded and nothing open yet: it sweeps these queues until nothing is due (or runs the command) and
dies at step N (0: never). A step is where something leaves the process: before and after every vault call and every commit.
Answers `died` or the number of steps there were.
"""

import os
import signal
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402

from operations.work import SWEPT, sweep  # noqa: E402
from tests.stepping import call_at_steps  # noqa: E402

count, die_at = 0, 0


def step() -> None:
    global count
    count += 1
    if count == die_at:
        os.kill(os.getpid(), signal.SIGKILL)


call_at_steps(step)


def work(at: int, queues: Sequence[str], answer: int) -> None:
    global die_at
    die_at = at
    if queues[:1] == ["after_restore"]:
        credentials, name = queues[1:]
        call_command("after_restore", credentials=Path(credentials), restore=name, stdout=StringIO())
    else:
        while sweep(queues=queues):
            pass
    os.write(answer, str(count).encode())


def main() -> None:
    for line in sys.stdin:
        at, *queues = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                work(int(at), queues or SWEPT, writing)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("died" if killed else said or "failed", flush=True)


if __name__ == "__main__":
    main()
