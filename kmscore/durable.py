"""The one durable writer: a file that a crash at any moment, a power cut included, leaves old or new, and never in part.

Pure. The content is written beside its place, synced, renamed over it, and the directory synced. What a writer leaves that was
killed in between goes with the next write of the same file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

Owner = tuple[int, int]  # ids of a user and a group
LEFT_SECONDS: Final = 3600.0  # no write takes so long: what is older has no writer any more


def write_durably(path: Path, *parts: bytes, owner: Owner | None = None, synced: bool = True) -> None:
    """Replace the file's content; its owner alone may read and write it (0600). A link of that name is replaced itself.

    owner: whom root gives it; None keeps it ours. synced: False for what a power cut may take. Raises OSError; then, on a
    full disk too, what was there is unharmed and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.new")  # tempfile takes 5 ms to import: each `exec`
    with _opened(path.parent) as directory:  # first: a directory that cannot be synced keeps what it has
        try:
            with _made(temporary, owner) as file:
                file.write(b"".join(parts))
                if synced:
                    _sync_file(file)
            _remove_leftovers(path, temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        if synced:
            os.fsync(directory)


def owner_of_directory(directory: Path) -> Owner | None:
    """Whom root has to give what it writes there, lest they cannot read it: only for what is that directory's own affair.

    None for everybody but root, and for root's own directories. Whoever owns a directory can put links and files of any
    name into it, so nothing is learned from those. Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    found = directory.stat()
    return None if found.st_uid == 0 else (found.st_uid, found.st_gid)


def _remove_leftovers(path: Path, own: Path) -> None:
    """What killed writers of this very file left; writers at work are let be. Costs one look at the directory.

    Old is what is older than our own file: the machine's clock may have jumped since that was made.
    """
    left = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.new")
    for name in os.listdir(path.parent):
        if left.fullmatch(name) and name != own.name:
            with suppress(OSError):
                found = path.with_name(name)
                if found.lstat().st_mtime < own.lstat().st_mtime - LEFT_SECONDS:
                    found.unlink()


@contextmanager
def new_file(path: Path, *, owner: Owner | None = None) -> Iterator[IO[bytes]]:
    """A file that was not there (0600), durable at the end of the block, its name too. Raises OSError."""
    with _made(path, owner) as file:
        yield file
        _sync_file(file)
    sync(path.parent)


def _made(path: Path, owner: Owner | None) -> IO[bytes]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask took away
        if owner is not None:
            os.fchown(descriptor, *owner)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "wb")


def _sync_file(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """What a file holds, or which names a directory has, is on the disk when this returns. Raises OSError."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
