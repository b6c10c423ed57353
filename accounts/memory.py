"""What this process remembers outside the database: the newest number it saw of each thing, and what is over.

A signature does not tell today's row from last month's. Whoever writes to the database can put a genuine row of an earlier day
back, or one that was taken away; a process that saw what came after does not believe it. What a process never saw it cannot
know: web servers on several machines have a memory each (docs/threat-model.md).

It is the file `seen` in KMS_STATE, so that a restart forgets nothing, and that of every process which has this directory: lines
of ``name number time``, of which the highest number counts. Without KMS_STATE a process remembers as long as it runs.
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
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db import transaction

from kmscore.durable import write_durably

log = structlog.get_logger()
OVER = 2**62  # higher than any number
LARGE = 4 * 1024 * 1024  # bytes of the file; at twice that, and twice what had to be kept, it is written anew
FILE = "seen"
_UNTIL = "until-"  # begins the name of what need not be remembered after the moment that is its number


class Seen(NamedTuple):
    """number: the newest of a thing; former: the one before. came: when the newest did, seconds since 1970."""

    number: int
    came: float
    former: int


NOTHING = Seen(0, 0.0, 0)


class Memory:
    """One directory's; None: this process's alone."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / FILE if directory else None
        self._known: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self._file, self._read = 0, 0  # which file was read, by its number on the disk, and how far
        self._kept = 0  # bytes of the file when it was last shortened

    def newest(self, name: str, before: float = math.inf) -> int:
        """The highest number that was seen of it, 0 for none; the one before, when it came later than `before`, in seconds since
        1970."""
        self._catch_up()
        seen = self._known.get(name, NOTHING)
        return seen.number if seen.came <= before else seen.former

    def remember(self, name: str, number: int) -> None:
        """What cannot be written down is known as long as this process runs, and logged."""
        if self.newest(name) >= number:
            return
        try:
            if self._path is not None:
                self._write(self._path, name, number)
        except OSError as error:
            log.error("memory_not_written", reason=error.strerror)
        _learn(self._known, name, number, time.time())

    def _write(self, path: Path, name: str, number: int) -> None:
        if self._read > 2 * max(LARGE, self._kept):
            self._shorten(path)
        with _alone(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "ab", buffering=0) as file:
                file.write(f"{name} {number} {time.time():.3f}\n".encode())
        self._catch_up()

    def forget(self) -> None:
        """All of it: an older database was put back, on an operator's word."""
        if self._path:
            with _alone(self._path):
                write_durably(self._path, b"")
        with self._lock:
            self._known = {}

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
            found, known, read = os.fstat(file.fileno()), self._known, self._read
            if found.st_ino != self._file or found.st_size < read:  # a new one: shortened, or everything is forgotten
                known, read = {}, 0
            file.seek(read)
            for line in file:
                if line.endswith(b"\n"):  # somebody may be writing it
                    name, number, came = line.decode().split(" ")
                    _learn(known, name, int(number), float(came))
                    read += len(line)
            self._known, self._file, self._read = known, found.st_ino, read

    def _shorten(self, path: Path) -> None:
        with _alone(path):
            self._catch_up()
            now = time.time()
            kept = [
                (name, n, came)
                for name, (n, came, _) in self._known.items()
                if not (name.startswith(_UNTIL) and n < now)
            ]
            content = "".join(f"{name} {number} {came:.3f}\n" for name, number, came in kept).encode()
            write_durably(path, content)
            self._kept = len(content)


def _learn(known: dict[str, Seen], name: str, number: int, came: float) -> None:
    former = known.get(name, NOTHING).number
    if number > former:
        known[name] = Seen(number, came, former)


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
