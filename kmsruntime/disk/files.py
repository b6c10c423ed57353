"""Files that must survive a power cut (kmscore/durable.py) and be read by nobody else, with errors in our words."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shlex
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kmscore import durable, private_file
from kmsruntime.errors import Busy, StorageFailed


def expanded(path: Path) -> Path:
    """The absolute path, a ~ at its beginning replaced. Raises StorageFailed where nobody knows by what."""
    with suppress(RuntimeError, OSError):
        return path.expanduser().absolute()
    raise StorageFailed(
        "storage_failed", f"The directory that {path} begins with is not known or gone; write the path in full."
    )


def look(path: Path) -> os.stat_result | None:
    """What lies there, a link itself; None when nothing does. Raises StorageFailed."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _failed(path, error) from None


def names(directory: Path) -> list[str]:
    """What lies in it; nothing when there is no such directory. Raises StorageFailed."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _failed(directory, error) from None


def target(link: Path) -> Path:
    """Where a link points, as it says so. Raises StorageFailed."""
    try:
        return link.readlink()
    except OSError as error:
        raise _failed(link, error) from None


def make_private_directory(path: Path, option: str = "--dir") -> None:
    """A directory of mode 0700 that belongs to us; not one that others use too. option: how another one is named.

    Raises StorageFailed.
    """
    try:
        if is_shared(path):  # asked first: a home that is not there yet is made by whoever makes its owner
            raise StorageFailed(
                "directory_shared", f"{path} serves other things too; choose one of its own with {option}."
            )
        _make_missing(path)
        if path.is_symlink():
            raise StorageFailed("storage_failed", f"{path} is a link: name the directory itself.")
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise StorageFailed("storage_failed", f"{path} is not a directory: choose another.")
        if found.st_uid != os.geteuid():
            raise StorageFailed(
                "directory_foreign", f"{path} belongs to another user; choose a directory with {option}."
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise _failed(path, error) from None


def _make_missing(path: Path) -> None:
    """The directory, and those above it that are missing: not open to others to write in, whatever the umask says; durably, or
    a power cut takes what is kept there with them."""
    missing = [one for one in (path, *path.parents) if not os.path.lexists(one)]
    for one in reversed(missing):
        mode = 0o700 if one == path else 0o755
        with suppress(FileExistsError):  # somebody else made it just now
            one.mkdir(mode)
            one.chmod(mode)
            with suppress(PermissionError):  # who may make an entry there need not be allowed to read it
                durable.sync(one.parent)


def is_shared(path: Path) -> bool:
    """Whether this is a home, a temporary directory or the root: never to be closed to others, however empty it is.

    What is not there yet is known by its name; what is there as the directory it is, for it may be mounted under another name.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return os.path.realpath(path) in map(os.path.realpath, _homes(os.geteuid()))
    shared = ("/", *_homes(found.st_uid))
    return bool(found.st_mode & stat.S_ISVTX) or any(_is_directory(found, Path(name)) for name in shared)


def _is_directory(found: os.stat_result, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(found, path.stat())
    return False


def _homes(owner: int) -> list[str]:
    """Everybody's that this machine lists, that of a directory's owner whom it may not list, and the one we were told of."""
    named = [entry.pw_dir for entry in pwd.getpwall()]
    with suppress(KeyError):
        named.append(pwd.getpwuid(owner).pw_dir)
    return [name for name in (*named, os.path.expanduser("~")) if name]  # noqa: PTH111 Path.home() may raise


def write_durably(path: Path, parts: Sequence[bytes], *, synced: bool = True) -> None:
    """Replace the file's content (mode 0600) so that a crash at any moment leaves old or new. Raises StorageFailed."""
    try:
        durable.write_durably(path, *parts, synced=synced)
    except OSError as error:
        raise _failed(path, error) from None


def read_private(path: Path) -> bytes | None:
    """The file's content, None when there is no such file. Raises StorageFailed, also for a link and a file others can read.

    Of a link it is not known whose file it names: root would read one that the directory's owner may not.
    """
    try:
        return private_file.read_private(path)
    except private_file.NotPrivate as problem:
        if problem.open_to_others:
            raise StorageFailed(
                "file_open_to_others", f"Others may read {path}; run: chmod 600 {shlex.quote(str(path))}"
            ) from None
        raise StorageFailed("storage_failed", f"{path} {problem}: put the file itself there.") from None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(path, error) from None


def signature(path: Path) -> object:
    """Tells whether a file was replaced or touched since; None when there is none."""
    with suppress(OSError):
        found = path.stat()
        return (found.st_ino, found.st_size, found.st_mtime_ns)
    return None


def remove(path: Path) -> None:
    """Remove a file, durably; none there is fine. Raises StorageFailed."""
    try:
        path.unlink()
        durable.sync(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(path, error) from None


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files of runs that were killed; only called while holding the lock."""
    for path in directory.glob(".*.new"):
        with suppress(OSError):
            path.unlink()


@contextmanager
def locked(path: Path, *, wait: float, sentence: str) -> Iterator[None]:
    """Hold an exclusive lock on a lock file; waits up to `wait` seconds, then raises Busy(sentence).

    The kernel drops the lock with the process, so a killed run never blocks the next one.
    """
    try:
        with suppress(FileExistsError), durable.new_file(path):
            pass
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, error) from None
    try:
        _take(descriptor, wait, sentence)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, wait: float, sentence: str) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy("busy", sentence) from None
        time.sleep(0.05)


def _failed(path: Path, error: OSError | ValueError) -> StorageFailed:
    if isinstance(error, ValueError):
        return StorageFailed(
            "storage_failed", f"{path} is no path here (LANG=C.UTF-8 takes every name): choose another."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFailed(
            "disk_full", f"No space left to write {path}: free some and run this again; what was there is unharmed."
        )
    if error.errno == errno.ELOOP:
        return StorageFailed("storage_failed", f"{path} is a link: put the file itself there.")
    return StorageFailed(
        "storage_failed",
        f"{path} cannot be used: {error.strerror or 'Input/output error'}. ls -ld shows what it is and whose; mend that, and "
        "run this again.",
    )
