"""`make run` as a whole: first and later starts, crashes of every part, and an end that leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts.keyring import PROCESSES, read_signing_keys
from kmscore.vaultclient.client import Vault
from tests.demo.running import PARTS, ROOT, Stack, group_lives
from tests.servers import free_port
from vaults.hosted.credentials import HELD, read_credentials

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack") / "var"


@pytest.fixture(scope="module")
def stack(var: Path) -> Iterator[Stack]:
    """A stack after its first start. Tests may crash it; they leave one running on the same VAR and port."""
    running = Stack(var, free_port()).wait_running()
    yield running
    stop(running)


def stop(running: Stack) -> None:
    """Whatever a test left on this VAR: a start and an orderly end clear it."""
    if running.process.poll() is None:
        running.interrupt()
    if any(group_lives(pid) for pid in running.groups()):
        Stack(running.var, running.port).wait_running().interrupt()


def manage(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KMS_MODE": "demo"}
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def again(stack: Stack) -> Stack:
    """Start again on the same VAR and port; the fixture goes on with the new process."""
    new = Stack(stack.var, stack.port)
    stack.process, stack.lines, stack._new = new.process, new.lines, new._new
    return stack.wait_running()


class TestFirstStart:
    def test_shows_a_line_per_step_the_address_and_the_logins(self, stack: Stack) -> None:
        stack.wait_for_line("Ctrl-C")
        text = "\n".join(stack.lines)
        for step in ("vault", "Valkey", "database", "web server", "runtime"):
            assert step in text
        assert f"http://localhost:{stack.port}" in text
        for user in stack.demo()["users"]:
            assert user["email"] in text
            assert user["password"] in text

    def test_demo_json_has_the_documented_schema(self, stack: Stack) -> None:
        demo = stack.demo()
        assert demo["url"] == f"http://localhost:{stack.port}"
        assert isinstance(demo["account"], str)
        assert all(set(user) == {"email", "password", "role"} for user in demo["users"])
        assert all(set(item) == {"id", "name"} for item in demo["environments"] + demo["atoms"])
        assert len({user["password"] for user in demo["users"]}) == len(demo["users"])

    def test_nobody_else_can_read_anything(self, stack: Stack) -> None:
        assert stat.S_IMODE(stack.var.stat().st_mode) == 0o700
        # Static files and the wheel are for everybody, through the web server.
        private = [path for path in stack.var.rglob("*") if not {"static", "wheels"} & set(path.parts)]
        assert [path for path in private if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []

    def test_the_root_token_is_gone(self, stack: Stack) -> None:
        # The recovery key alone makes no token while the endpoint is closed.
        address = _vault_address(stack)
        assert _status(address, "PUT", "sys/generate-root/attempt") in {403, 405}
        for path in stack.var.rglob("*"):
            if path.is_file() and path.suffix in {".json", ".log", ".hcl", ".conf"}:
                assert b"root_token" not in path.read_bytes().replace(b'"root_token":"hmac-sha256:', b"")

    def test_each_process_has_its_own_credentials_only(self, stack: Stack) -> None:
        for name, identities in HELD.items():
            directory = stack.var / "credentials" / name
            assert set(read_credentials(directory).identities) == set(identities)
            keys = [process for process, _ in read_signing_keys(directory / "signing-keys")]
            assert keys == ([name] if name in PROCESSES else [])
        assert _environment(stack, "web")["KMS_CREDENTIALS"].endswith("web")
        assert _environment(stack, "worker")["KMS_CREDENTIALS"].endswith("worker")
        assert not any(name.startswith("KMS_") for name in _environment(stack, "runtime"))

    def test_the_runtime_wheel_is_there_to_be_served(self, stack: Stack) -> None:
        assert len(list((stack.var / "wheels").glob("kmsportal_runtime-*.whl"))) == 1

    def test_a_second_stack_in_the_same_directory_is_refused(self, stack: Stack) -> None:
        other = Stack(stack.var, free_port())
        assert other.ended() != 0
        _one_clear_line(other, "running in")
        assert stack.is_ready()

    def test_a_second_stack_runs_beside_it(self, stack: Stack, tmp_path: Path) -> None:
        other = Stack(tmp_path / "var", free_port()).wait_running()
        try:
            assert other.is_ready()
            assert stack.is_ready()
            passwords = [{user["password"] for user in one.demo()["users"]} for one in (stack, other)]
            assert passwords[0].isdisjoint(passwords[1])
        finally:
            assert other.interrupt() == 0
        assert stack.is_ready()


class TestCrashes:
    @pytest.mark.parametrize("part", PARTS)
    def test_a_part_that_dies_is_started_again_with_a_line(self, stack: Stack, part: str) -> None:
        before = stack.pid(part)
        os.kill(before, signal.SIGKILL)
        stack.wait_for_line(f"{part} stopped (signal 9); starting it again", 10)
        deadline = time.monotonic() + 20
        while stack.pid(part) in (before, 0) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert stack.pid(part) not in (before, 0)
        assert not group_lives(before)
        stack.wait_ready()

    def test_after_the_supervisor_was_killed_the_next_start_stops_what_it_left(self, stack: Stack) -> None:
        left = stack.groups()
        stack.kill()
        assert any(group_lives(pid) for pid in left)
        again(stack)
        assert any("left running" in line for line in stack.lines)
        assert not any(group_lives(pid) for pid in left)
        assert stack.is_ready()

    def test_a_power_cut_loses_nothing(self, stack: Stack) -> None:
        demo, users = stack.demo(), _users(stack)
        credentials = (stack.var / "credentials" / "web" / "identities.json").read_bytes()
        stack.power_cut()
        again(stack)
        assert stack.demo() == demo
        assert _users(stack) == users
        assert (stack.var / "credentials" / "web" / "identities.json").read_bytes() == credentials
        assert stack.is_ready()


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_stops_every_process_and_starts_again_in_ten_seconds_with_its_data(self, stack: Stack, number: int) -> None:
        demo, users, groups = stack.demo(), _users(stack), stack.groups()
        assert len(groups) == len(PARTS)
        assert stack.interrupt(number) == 0
        assert not any(group_lives(pid) for pid in groups)
        assert list((stack.var / "run").glob("*.pid")) == []
        begun = time.monotonic()
        again(stack)
        assert time.monotonic() - begun < 10
        assert stack.demo() == demo
        assert _users(stack) == users

    def test_lost_credentials_are_renewed_and_the_way_to_a_root_token_is_closed_again(self, stack: Stack) -> None:
        stack.interrupt()
        (stack.var / "credentials" / "web" / "identities.json").unlink()
        again(stack)
        assert any("Renewing" in line for line in stack.lines)
        assert stack.is_ready()
        assert _status(_vault_address(stack), "PUT", "sys/generate-root/attempt") in {403, 405}

    def test_a_moved_directory_still_starts(self, stack: Stack) -> None:
        demo = stack.demo()
        stack.interrupt()
        stack.var = stack.var.rename(stack.var.with_name("moved"))
        again(stack)
        assert stack.demo() == demo
        assert stack.is_ready()

    def test_another_port_is_told_to_scripts_and_to_the_runtime(self, stack: Stack) -> None:
        stack.interrupt()
        stack.port = free_port()
        again(stack)
        assert stack.demo()["url"] == f"http://localhost:{stack.port}"
        assert any("Enrolling the demo runtime" in line for line in stack.lines)
        assert stack.is_ready()

    def test_stops_in_the_middle_of_a_start(self, tmp_path: Path) -> None:
        early = Stack(tmp_path / "var", free_port())
        early.wait_for_line("Making the vault")
        time.sleep(0.7)
        groups = early.groups()
        assert early.interrupt() == 0
        assert not any(group_lives(pid) for pid in groups)


class TestRestoring:
    def test_what_restore_says_comes_next_works_as_it_is_printed(self, stack: Stack, tmp_path: Path) -> None:
        kept = tmp_path / "back ups"
        assert manage("demo", "--var", str(stack.var), "--manage", "backup", "--to", str(kept)).returncode == 0
        stack.interrupt()
        done = manage("restore", "--from", str(next(kept.iterdir())), "--var", str(stack.var), "--yes")
        assert done.returncode == 0, done.stderr
        again(stack)
        line = next(line for line in done.stdout.splitlines() if "after_restore" in line)
        bare = {name: value for name, value in os.environ.items() if not name.startswith("KMS_")}
        told = subprocess.run(line, shell=True, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=120)  # noqa: S602
        assert told.returncode == 0, told.stderr
        assert stack.is_ready()


class TestBrokenStarts:
    def test_port_in_use(self, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            refused = Stack(tmp_path / "var", port)
            assert refused.ended() != 0
        _one_clear_line(refused, f"Port {port} is in use", "make run PORT=")

    def test_a_first_start_killed_between_initialisation_and_installation(self, tmp_path: Path) -> None:
        var = tmp_path / "var"
        broken = Stack(var, free_port())
        deadline = time.monotonic() + 60
        while not (var / "openbao" / "recovery.key").exists():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        broken.kill()
        assert not (var / "openbao" / "installed").exists()
        whole = Stack(var, broken.port).wait_running()
        try:
            assert whole.is_ready()
        finally:
            whole.interrupt()

    def test_a_first_start_killed_while_the_runtime_enrols(self, tmp_path: Path) -> None:
        var = tmp_path / "var"
        broken = Stack(var, free_port())
        broken.wait_for_line("Enrolling the demo runtime")
        time.sleep(0.5)
        broken.kill()
        whole = Stack(var, broken.port).wait_running()
        try:
            assert (var / "runtime.json").exists()
            assert not (var / "secrets" / "installer_token").exists()
            assert group_lives(whole.pid("runtime"))
        finally:
            whole.interrupt()

    def test_a_database_without_its_vault_is_never_wiped_nor_served(self, tmp_path: Path) -> None:
        var = tmp_path / "var"
        var.mkdir()
        (var / "portal.sqlite3").write_bytes(b"")
        refused = Stack(var, free_port())
        assert refused.ended() != 0
        _one_clear_line(refused, "backup")

    def test_a_directory_of_an_earlier_version_is_one_clear_line(self, tmp_path: Path) -> None:
        var = tmp_path / "var"
        var.mkdir()
        (var / "demo.json").write_text('{"format": 1, "url": "http://localhost:1"}')
        refused = Stack(var, free_port())
        assert refused.ended() != 0
        _one_clear_line(refused, "made by an earlier version", "Use another VAR")

    def test_a_directory_that_cannot_be_written(self) -> None:
        refused = Stack(
            Path("/proc/kms-portal"), free_port()
        )  # where nobody makes directories, root no more than others
        assert refused.ended() != 0
        _one_clear_line(refused, "cannot be used")


def _one_clear_line(stack: Stack, *parts: str) -> None:
    (line,) = [line for line in stack.lines if line.strip()]
    for part in parts:
        assert part in line


def _users(stack: Stack) -> list[tuple[object, ...]]:
    """The rows of the user table, whatever its name."""
    with sqlite3.connect(f"file:{stack.var}/portal.sqlite3?mode=ro", uri=True) as database:
        tables = [
            name
            for (name,) in database.execute("select name from sqlite_master where name like '%\\_user' escape '\\'")
        ]
        assert tables
        return sorted(row[:1] for table in tables for row in database.execute(f'select * from "{table}"'))


def _environment(stack: Stack, part: str) -> dict[str, str]:
    raw = Path(f"/proc/{stack.pid(part)}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in raw if entry)


def _vault_address(stack: Stack) -> str:
    return _environment(stack, "web")["KMS_VAULT_ADDR"]


def _status(address: str, method: str, path: str) -> int | None:
    from kmscore.vaultclient.answers import VaultError

    try:
        Vault(address).call(method, path, {})
    except VaultError as error:
        return error.status
    return 200
