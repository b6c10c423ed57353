"""Every file that must survive a power cut is written by one writer: beside its place, synced, renamed, the directory synced."""

from __future__ import annotations

import os
import resource
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kmscore.durable import new_file, write_durably
from kmsportal.backups import record, restored
from kmsruntime.disk import files
from vaults.hosted.credentials import Credential, Credentials, write_credentials

NOW = datetime(2026, 7, 1, tzinfo=UTC)
CREDENTIALS = Credentials(2, {"web": Credential("role", "secret", NOW)})
WRITERS: dict[str, Callable[[Path], object]] = {
    "credentials": lambda path: write_credentials(path, CREDENTIALS),
    "container": lambda path: files.write_durably(path, [b"one", b"two"]),
    "portal": lambda path: write_durably(path, b"one"),
    "restore's note": lambda path: restored.note(path.parent, ["database"], NOW),
    "backup's record": lambda path: record.write(path.parent, record.BackupRecord(NOW, 2, "", {}, {})),
}


@contextmanager
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """What was synced and renamed, in order: real calls of the system, looked at on their way."""
    done: list[tuple[str, str]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    watching = True

    def renamed(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "os.rename":
            done.append(("rename", str(arguments[1])))

    sys.addaudithook(renamed)
    monkeypatch.setattr(os, "fsync", fsync)
    try:
        yield done
    finally:
        watching = False


@pytest.mark.parametrize("name", WRITERS)
def test_content_then_name_then_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with synced(monkeypatch) as done:
        WRITERS[name](tmp_path / "file.json")
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert done[-1] == ("sync", str(tmp_path)), "the name is durable only when the directory is"
    assert [what for what, _ in done] in (["sync", "rename", "sync"], ["sync", "sync"])
    assert Path(done[0][1]).parent == tmp_path, "the temporary file is on the same file system"


def test_a_write_that_fails_leaves_the_old_file_alone_and_nothing_beside_it(tmp_path: Path) -> None:
    """As on a full disk: a file of this process may have 4 bytes."""
    path = tmp_path / "file"
    write_durably(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_durably(path, b"too long")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"old")]


def test_a_new_file_is_never_written_over_an_old_one(tmp_path: Path) -> None:
    with new_file(tmp_path / "file") as file:
        file.write(b"first")
    with pytest.raises(FileExistsError), new_file(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_bytes() == b"first"
