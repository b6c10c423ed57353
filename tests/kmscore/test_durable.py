"""Every file that must survive a power cut is written by one writer: beside its place, synced, renamed, the directory synced."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import time_machine

from kmscore.durable import LEFT_SECONDS, new_file, write_durably
from kmsportal.backups import record, restored
from kmsruntime.disk import files
from kmsruntime.disk.home import Config, Home
from kmsruntime.disk.state import State, write_state
from kmsruntime.errors import RuntimeProblem, StorageFailed
from tests.live import ROOT
from vaults.hosted.credentials import Credential, Credentials, write_credentials

NOW = datetime(2026, 7, 1, tzinfo=UTC)
CREDENTIALS = Credentials(2, {"web": Credential("role", "secret", NOW)})
WRITERS: dict[str, Callable[[Path], object]] = {
    "credentials": lambda path: write_credentials(path.parent, CREDENTIALS),
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


NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away, and can be somebody else")


def test_a_directory_that_cannot_be_synced_keeps_what_it_has(tmp_path: Path) -> None:
    """One that may be written and not read (0300): as somebody whom that stops."""
    path = tmp_path / "closed" / "file"
    path.parent.mkdir()
    write_durably(path, b"old")
    somebody: dict[str, Any] = {}
    if os.geteuid() == 0:
        somebody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        os.chown(path.parent, NOBODY, NOBODY)
        for one in (tmp_path, *tmp_path.parents[:2]):
            one.chmod(one.stat().st_mode | 0o011)
    path.parent.chmod(0o300)
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from kmscore.durable import write_durably\n"
        "if sys.argv[2:]: os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
        "try: write_durably(Path(sys.argv[1]), b'new')\n"
        "except PermissionError: print('refused')\n"
    )
    words = [sys.executable, "-c", code, str(path), *([str(NOBODY)] if somebody else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    path.parent.chmod(0o700)
    assert (done.stdout, done.stderr) == ("refused\n", "")
    assert [(one.name, one.read_bytes()) for one in path.parent.iterdir()] == [("file", b"old")]


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


@root_only
def test_root_puts_a_database_back_for_the_owner_of_its_directory(tmp_path: Path) -> None:
    for uid in (0, NOBODY):
        os.chown(tmp_path, uid, uid)
        restored.note(tmp_path, ["database"], NOW)
        assert {owner(one) for one in tmp_path.iterdir()} == {(uid, uid)}


@root_only
def test_a_credentials_file_stays_with_whom_root_gave_it_to(tmp_path: Path) -> None:
    path = tmp_path / "identities.json"
    write_credentials(tmp_path, CREDENTIALS)
    assert owner(path) == (0, 0)
    os.chown(path, NOBODY, NOBODY - 1)
    write_credentials(tmp_path, CREDENTIALS)
    assert owner(path) == (NOBODY, NOBODY - 1)


@root_only
def test_a_process_reads_what_root_writes_into_the_directory_it_was_given(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "web").mkdir(mode=0o700)
    os.chown(tmp_path / "web", NOBODY, NOBODY - 1)
    write_credentials(tmp_path / "web", CREDENTIALS)
    assert owner(tmp_path / "web" / "identities.json") == (NOBODY, NOBODY - 1)


@root_only
@pytest.mark.parametrize(
    ("uid", "gid", "mode"),
    [(NOBODY, NOBODY, 0o700), (0, NOBODY, 0o770), (0, 0, 0o1777)],
    ids=["theirs", "group", "all"],
)
def test_root_gives_no_credentials_to_whoever_could_be_there_first(
    uid: int, gid: int, mode: int, tmp_path: Path
) -> None:
    """Somebody else's directory holds the processes', or everybody writes to one of them."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    os.chown(directory, uid, gid)
    directory.chmod(mode)
    for name in ("worker", "shredder"):
        (directory / name).mkdir(mode=0o700)
        os.chown(directory / name, NOBODY, NOBODY)
        write_credentials(directory / name, CREDENTIALS)
        assert owner(directory / name / "identities.json") == (0, 0), name


@root_only
@pytest.mark.parametrize("name", ["lock", "run.lock", "state.json", "config.json", "store", ".state.json.1.new"])
def test_no_link_in_somebodys_directory_leads_root_to_a_file_of_others(name: str, tmp_path: Path) -> None:
    """Attacks that succeeded: root's own file became the directory owner's, or was overwritten, by any command of root's."""
    victim = tmp_path / "shadow"
    victim.write_bytes(b"root's own")
    victim.chmod(0o600)
    home = Home(tmp_path / "theirs")
    home.directory.mkdir()
    config = Config(portal="https://portal.example", vault="https://vault.example")
    home.write_config(config)
    os.chown(home.directory, NOBODY, NOBODY)
    (home.directory / name).unlink(missing_ok=True)
    (home.directory / name).symlink_to(victim)
    for act in (home.lock, home.only_daemon):
        with suppress(RuntimeProblem), act():
            write_state(home, State())
    with suppress(RuntimeProblem):
        home.read_config()
    with suppress(RuntimeProblem):
        home.write_config(config)
    assert (owner(victim), victim.read_bytes()) == ((0, 0), b"root's own")


def test_a_link_is_refused_where_a_private_file_belongs(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"{}")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StorageFailed, match="is a link"):
        files.read_private(tmp_path / "link")


def test_whatever_the_umask_is_the_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        write_durably(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_what_a_killed_writer_left_goes_with_the_next_write_of_that_file(tmp_path: Path) -> None:
    old, at_work = tmp_path / ".file.0a1b2c3d.new", tmp_path / ".file.00000000.new"
    others = [
        tmp_path / name for name in (".file2.0a1b2c3d.new", ".file.notes.new", ".file.x.0a1b2c3d.new", "file.new")
    ]
    for path in (old, at_work, *others):
        path.write_bytes(b"secret")
        if path != at_work:
            os.utime(path, (NOW.timestamp(),) * 2)
    at_work_for = at_work.stat().st_mtime - LEFT_SECONDS + 60
    os.utime(at_work, (at_work_for, at_work_for))
    write_durably(tmp_path / "file", b"new")
    assert {one.name for one in tmp_path.iterdir()} == {"file", at_work.name, *(one.name for one in others)}


@pytest.mark.parametrize("years", [-20, 20])
def test_a_jump_of_the_clock_takes_no_file_from_its_writer(tmp_path: Path, years: int) -> None:
    with time_machine.travel(time.time() + years * 365 * 86400):
        write_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
