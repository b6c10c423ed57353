"""Signing: what this process decides it signs with its own key, and what others decided it believes by theirs.

The keys are outside the database and no other process's (DESIGN.md §1, the second rule). The files are looked at again while
the process runs, so that a changed key list takes effect without a restart; a list that is older than the one in use, or that
cannot be used, is logged and not taken.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from django.conf import settings

from accounts.keyring import (
    KEYS_FILE,
    LIST_FILE,
    PROCESSES,
    Keyring,
    KeyringBroken,
    development_key,
    development_list,
    read_keyring,
)

LOOK_SECONDS = 1.0  # between two looks at the files
log = structlog.get_logger()
_Seen = tuple[object, ...]
_lock = threading.Lock()
_kept: tuple[Keyring, _Seen] | None = None  # and what was seen of its files, the directories first
_looked = 0.0
_more: tuple[Path, ...] = ()  # what `use_directories` named


def sign(process: str, message: bytes) -> bytes:
    """72 bytes: the key's id and the signature. Raises NoSigningKey when this process is not that one."""
    return keyring().sign(process, message)


def own_process() -> str:
    """As whom this process signs what any of them may write (audit entries)."""
    return next(iter(keyring().processes), "")


def is_current(process: str, signature: bytes | memoryview) -> bool:
    """Whether this process signs with the key that made the signature."""
    return keyring().is_current(process, bytes(signature))


def signer_of(message: bytes, signature: bytes | memoryview, *, for_good: bool = False) -> str | None:
    """Which process signed this; None: none of the portal's. for_good: of what nobody may change, with an ended key too."""
    return keyring().signer_of(message, bytes(signature), for_good=for_good)


def keyring() -> Keyring:
    """This process's keyring. Raises KeyringBroken while there is none that can be used."""
    global _kept, _looked
    now, directories = time.monotonic(), _directories()
    if _kept is not None and now - _looked < LOOK_SECONDS and _kept[1][0] == directories:
        return _kept[0]
    with _lock:
        _looked = now
        seen = _seen(directories)
        if _kept is None or _kept[1] != seen:
            _kept = (_newer(directories), seen)
        return _kept[0]


def use_directories(directories: Sequence[Path]) -> None:
    """Hold the keys of these directories instead: for an operator's command, and for tests."""
    global _kept, _more
    with _lock:
        _more, _kept = tuple(directories), None


def _directories() -> tuple[Path, ...]:
    return _more or ((Path(settings.CREDENTIALS),) if settings.CREDENTIALS else ())


def _seen(directories: Sequence[Path]) -> _Seen:
    found: list[object] = [directories]
    for path in (directory / name for directory in directories for name in (LIST_FILE, KEYS_FILE)):
        try:
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def _newer(directories: Sequence[Path]) -> Keyring:
    held = _kept[0] if _kept and _kept[1][0] == directories else None
    try:
        found = _read(directories)
    except KeyringBroken as problem:
        if held is None:
            raise
        log.error("keyring_refused", reason=str(problem))
        return held
    if held is not None and found.listed.serial < held.listed.serial:
        log.error("key_list_older", serial=found.listed.serial, in_use=held.listed.serial)
        return held
    return found


def _root() -> bytes:
    try:
        return bytes.fromhex(settings.PORTAL_ROOT)
    except ValueError:
        raise KeyringBroken("KMS_PORTAL_ROOT is not the public half of a root key, in hexadecimal.") from None


def _read(directories: Sequence[Path]) -> Keyring:
    if settings.MODE == "development" and not any((one / LIST_FILE).exists() for one in directories):
        return Keyring(development_list(), [(process, development_key(process)) for process in PROCESSES])
    if not directories:
        raise KeyringBroken("Set KMS_CREDENTIALS.")
    return read_keyring(directories, _root())
