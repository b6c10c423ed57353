"""The one durable writer: a file that a crash at any moment, a power cut included, leaves old or new, and never in part.

Pure. The content is written beside its place, synced, renamed over it, and the directory synced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def write_durably(path: Path, *parts: bytes) -> None:
    """Replace the file's content; its owner alone may read and write it (0600).

    Raises OSError; then, on a full disk too, what was there is unharmed and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.new")  # tempfile takes 5 ms to import: each `exec`
    try:
        with _made(temporary) as file:
            file.write(b"".join(parts))
            _sync_file(file)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that was not there (0600), durable at the end of the block, its name too. Raises OSError."""
    with _made(path) as file:
        yield file
        _sync_file(file)
    sync(path.parent)


def _made(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _sync_file(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """What a file holds, or which names a directory has, is on the disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
