"""The stack's child processes: each leads a process group of its own, and is found again after a crash of the stack.

Every start writes `VAR/run/<name>.pid` (from the child itself, before it becomes the program, so none is missed) with
what tells the process from a later one of the same number. Only such processes are ever signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kmsportal.demo.directory import DemoError

STOP_SECONDS: Final = 12.0  # longer than the web server's grace for requests
LOG_BYTES: Final = 10 * 1024 * 1024


@dataclass
class Child:
    """A program of the stack. `log` takes its output, `pid_file` tells a later start what to clean up."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    log: Path
    pid_file: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Raises DemoError when the program cannot be run."""
        _turn_over(self.log)
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: PLW1509 (the supervisor has one thread)
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(self.environment),
                    cwd=self.directory,
                    start_new_session=True,
                    preexec_fn=lambda: note_pid(self.pid_file),
                )
        except (OSError, subprocess.SubprocessError):
            raise DemoError(
                f"{self.name} cannot be started.", f"Is {self.command[0]} there, and {self.log} writable?"
            ) from None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ended(self) -> str:
        """How it ended ("exit code 1", "signal 9"), "" while it runs. The process is not reaped: see `stop`."""
        if self._process is None:
            return "never started"
        state = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if state is None:
            return ""
        return f"exit code {state.si_status}" if state.si_code == os.CLD_EXITED else f"signal {state.si_status}"

    def ask_to_stop(self) -> None:
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGTERM)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop the whole group; whoever is left after `seconds` is killed. Doing it twice is harmless."""
        if self._process is None:
            return
        self.ask_to_stop()
        deadline = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.02)
        # Before reaping: until then the number cannot belong to anybody else.
        _signal_group(self._process.pid, signal.SIGKILL)
        _wait_gone(self._process.pid)
        self._process.wait()
        self._process = None
        self.pid_file.unlink(missing_ok=True)


def note_pid(pid_file: Path) -> None:
    """Write this process's pid file; called in a new child before it becomes its program."""
    pid = os.getpid()
    pid_file.write_text(json.dumps({"pid": pid, "started": _start_time(pid), "boot": _boot()}))


def stop_leftovers(run: Path) -> list[str]:
    """Stop what a killed stack in this VAR left running, asking first; returns the names."""
    groups: dict[str, int] = {}
    for file in sorted(run.glob("*.pid")):
        pid = _ours(file)
        if pid is not None:
            groups[file.stem] = pid
            _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for pid in groups.values():
        while _group_lives(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _group_lives(pid):
            _signal_group(pid, signal.SIGKILL)
            _wait_gone(pid)
    for file in run.glob("*.pid"):
        file.unlink(missing_ok=True)
    return list(groups)


def _ours(file: Path) -> int | None:
    """The group a pid file names, if it is still the one this file was written for."""
    try:
        noted = json.loads(file.read_text())
        pid, started = int(noted["pid"]), float(noted["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if noted.get("boot") != _boot() or not _group_lives(pid):
        return None
    now = _start_time(pid)
    if now:
        return pid if now == started else None
    # The leader is gone, members are left. A number is not given out again while a group has it.
    members = [member for member in _members(pid) if _start_time(member) >= started]
    return pid if members else None


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while _group_lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # a group of somebody else: not ours
    members = _members(pid)
    # Zombies whose parent has not looked yet keep the group's number; they hold no file and no port.
    return not members or any(_state(member) != "Z" for member in members)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the program's name (which may hold spaces); [] when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else "Z"


def _start_time(pid: int) -> float:
    """When a process started, in clock ticks since boot (proc(5), field 22); 0 when there is none."""
    fields = _stat(pid)
    return float(fields[19]) if fields else 0.0


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields and int(fields[2]) == group:
            found.append(int(entry.name))
    return found


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _turn_over(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
