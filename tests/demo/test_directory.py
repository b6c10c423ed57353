"""The stack's directory and its processes, without starting servers."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmsportal.demo import directory, processes
from kmsportal.demo.directory import DemoError, StackDirectory, inner_ports, lock, open_place
from kmsportal.demo.processes import Child, stop_leftovers


@pytest.fixture
def place(tmp_path: Path) -> StackDirectory:
    return open_place(tmp_path / "var", 8000)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def child(place: StackDirectory, *command: str) -> Child:
    run, logs = place.directory("run"), place.directory("logs")
    return Child("part", command, {"PATH": "/usr/bin:/bin"}, place.var, logs / "part.log", run / "part.pid")


class TestDirectory:
    def test_is_private(self, place: StackDirectory) -> None:
        assert stat.S_IMODE(place.var.stat().st_mode) == 0o700

    def test_no_space_is_one_sentence_with_a_way_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1024))
        with pytest.raises(DemoError, match=r"no space left at .*VAR"):
            open_place(tmp_path / "var", 8000)

    def test_a_file_in_its_place_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "var").write_text("")
        with pytest.raises(DemoError, match="cannot be used"):
            open_place(tmp_path / "var", 8000)

    def test_is_held_by_one_stack(self, place: StackDirectory) -> None:
        with lock(place), pytest.raises(DemoError, match="running in"):
            lock(place)
        lock(place).close()

    @pytest.mark.parametrize("port", [0, -1, 70000])
    def test_a_port_that_is_none(self, port: int) -> None:
        with pytest.raises(DemoError, match="not a port"):
            directory.check_web_port(port)

    def test_inner_ports_are_kept(self, place: StackDirectory) -> None:
        first = inner_ports(place)
        assert len(set(first.values())) == 3
        assert inner_ports(place) == first


class TestSecrets:
    def test_are_made_once(self, place: StackDirectory) -> None:
        path = place.secret("row_key")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.read_text()) == 43
        assert place.secret("row_key").read_text() == path.read_text()

    def test_are_never_made_anew_beside_data(self, place: StackDirectory) -> None:
        place.database.write_bytes(b"")
        with pytest.raises(DemoError, match="backup"):
            place.secret("row_key")
        assert place.secret("valkey_password", replaceable=True).exists()


class TestProcesses:
    def test_stop_takes_the_whole_group(self, place: StackDirectory) -> None:
        part = child(place, "sh", "-c", "trap '' TERM; sleep 60 & sleep 60")
        part.start()
        pid = part.pid
        assert pid is not None
        assert part.ended() == ""
        part.stop(seconds=0.3)
        assert not processes._group_lives(pid)
        assert not part.pid_file.exists()
        part.stop()

    def test_says_how_it_ended(self, place: StackDirectory) -> None:
        part = child(place, "sh", "-c", "exit 3")
        part.start()
        while not part.ended():
            pass
        assert part.ended() == "exit code 3"
        part.stop()

    def test_a_program_that_is_not_there(self, place: StackDirectory) -> None:
        with pytest.raises(DemoError, match="cannot be started"):
            child(place, "/nonexistent").start()

    def test_leftovers_are_stopped(self, place: StackDirectory) -> None:
        part = child(place, "sleep", "60")
        part.start()
        pid = part.pid
        assert pid is not None
        assert stop_leftovers(place.directory("run")) == ["part"]
        assert not processes._group_lives(pid)
        assert stop_leftovers(place.directory("run")) == []
        part.stop()

    def test_members_without_their_leader_are_stopped(self, place: StackDirectory) -> None:
        part = child(place, "sh", "-c", "sleep 60 & echo; exit 0")
        part.start()
        pid = part.pid
        assert pid is not None
        while not part.ended():
            pass
        assert part._process is not None
        part._process.wait()  # reaped: only the member is left
        assert stop_leftovers(place.directory("run")) == ["part"]
        assert not processes._group_lives(pid)

    @pytest.mark.parametrize("change", [{"started": 1.0}, {"boot": "another"}, {"pid": "x"}])
    def test_a_later_process_of_the_same_number_is_left_alone(
        self, place: StackDirectory, stranger: subprocess.Popen[bytes], change: dict[str, object]
    ) -> None:
        started = processes._start_time(stranger.pid)
        noted = {"pid": stranger.pid, "started": started, "boot": processes._boot()}
        (place.directory("run") / "web.pid").write_text(json.dumps(noted | change))
        assert stop_leftovers(place.directory("run")) == []
        assert stranger.poll() is None
        stranger.send_signal(signal.SIGTERM)
