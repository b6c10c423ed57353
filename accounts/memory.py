"""What this process remembers outside the database: the newest number it saw of each thing, and what is over.

A signature does not tell today's row from last month's. Whoever writes to the database can put a genuine row of an earlier day
back, or one that was taken away; a process that saw what came after does not believe it. What a process never saw it cannot
know: web servers on several machines have a memory each (docs/threat-model.md).

It is the file `seen` in KMS_STATE, so that a restart forgets nothing, and that of every process which has this directory: lines
of ``name number``, of which the highest counts. Without KMS_STATE a process remembers as long as it runs.
"""

import fcntl
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import transaction

from kmscore.durable import write_durably

OVER = 2**62  # higher than any number
LARGE = 4 * 1024 * 1024  # bytes of the file; at twice that, and twice what had to be kept, it is written anew
FILE = "seen"
_UNTIL = "until-"  # begins the name of what need not be remembered after the moment that is its number


class Memory:
    """One directory's; None: this process's alone."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / FILE if directory else None
        self._known: dict[str, int] = {}
        self._learned: dict[str, float] = {}  # when, in monotonic seconds, of what this process saw itself
        self._lock = threading.Lock()
        self._file, self._read = 0, 0  # which file was read, by its number on the disk, and how far
        self._kept = 0  # bytes of the file when it was last shortened

    def newest(self, name: str, before: float = math.inf) -> int:
        """The highest number that was seen of it; 0 for none, or when that was learned later than `before` (monotonic seconds)."""
        self._catch_up()
        return self._known.get(name, 0) if self._learned.get(name, 0.0) <= before else 0

    def remember(self, name: str, number: int) -> None:
        """Raises OSError when it cannot be written down."""
        if self.newest(name) >= number:
            return
        if self._path is None:
            self._learn(name, number)
            return
        if self._read > 2 * max(LARGE, self._kept):
            self._shorten(self._path)
        with _alone(self._path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(self._path, flags, 0o600), "ab", buffering=0) as file:
                file.write(f"{name} {number}\n".encode())
        self._catch_up()

    def forget(self) -> None:
        """All of it: an older database was put back, on an operator's word."""
        with self._lock:
            self._known.clear()
            self._learned.clear()
            if self._path:
                with _alone(self._path):
                    write_durably(self._path, b"")

    def _catch_up(self) -> None:
        """Take over what other processes of the directory wrote since."""
        if self._path is None:
            return
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        if (found.st_ino, found.st_size) == (self._file, self._read):
            return
        with self._lock, self._path.open("rb") as file:
            number, first = os.fstat(file.fileno()).st_ino, not self._file
            if number != self._file:  # a new one: shortened, or everything is forgotten
                former, self._known, self._file, self._read = self._known, {}, number, 0
            else:
                former = {}
            file.seek(self._read)
            for line in file:
                name, _, value = line.decode().partition(" ")
                if line.endswith(b"\n"):  # somebody may be writing it
                    self._learn(name, int(value), new=not first and former.get(name) != int(value))
                    self._read += len(line)

    def _learn(self, name: str, number: int, *, new: bool = True) -> None:
        if number > self._known.get(name, 0):
            self._known[name] = number
            if new:
                self._learned[name] = time.monotonic()

    def _shorten(self, path: Path) -> None:
        with _alone(path):
            self._catch_up()
            now = time.time()
            kept = [(name, n) for name, n in self._known.items() if not (name.startswith(_UNTIL) and n < now)]
            content = "".join(f"{name} {number}\n" for name, number in kept).encode()
            write_durably(path, content)
            self._kept = len(content)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The one that writes: the file may be another one by the time that it is free."""
    with open(os.open(f"{path}.lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=4)
def _memory_of(directory: Path | None) -> Memory:
    return Memory(directory)


def newest(name: str, before: float = math.inf) -> int:
    """As Memory.newest, of this process's directory."""
    return _memory_of(settings.STATE).newest(name, before)


def remember(name: str, number: int = OVER) -> None:
    """Once what is being written is committed; without a number that it is over."""
    transaction.on_commit(lambda: _memory_of(settings.STATE).remember(name, number))


def remember_until(name: str, moment: float) -> None:
    """That it is over, as long as it would have lasted: seconds since 1970."""
    remember(_UNTIL + name, int(moment) + 1)


def is_over(name: str) -> bool:
    """Whether `remember_until` said so."""
    return newest(_UNTIL + name) > 0


def forget() -> None:
    _memory_of(settings.STATE).forget()
