"""Starts the embedded stack as a person would and talks to it; used by the stack's tests."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUNNING = "KMS Portal is running"
PARTS = ("openbao", "valkey", "worker", "bulk", "watch", "shredder", "web", "runtime")


class Stack:
    """One `manage.py demo`; `lines` is what it printed so far."""

    def __init__(self, var: Path, port: int) -> None:
        self.var, self.port = var, port
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--var", str(var), "--port", str(port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "KMS_MODE": "demo"},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._new.put(line.rstrip("\n"))
        self._new.put(None)

    def wait_for_line(self, part: str, seconds: float = 90) -> str:
        """The next line that has `part` in it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._new.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"never printed {part!r}:\n" + "\n".join(self.lines))
            self.lines.append(line)
            if part in line:
                return line

    def wait_running(self) -> Stack:
        self.wait_for_line(RUNNING)
        return self

    def ended(self, seconds: float = 60) -> int:
        """Wait for the end; returns the exit code. All lines are in `lines` then."""
        code = self.process.wait(seconds)
        while (line := self._new.get(timeout=5)) is not None:
            self.lines.append(line)
        return code

    def interrupt(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.ended()

    def kill(self) -> None:
        """The supervisor alone; its parts go on."""
        self.process.kill()
        self.process.wait()

    def power_cut(self) -> None:
        """Everything at once."""
        pids = [self.pid(part) for part in PARTS]
        self.kill()
        for pid in pids:
            os.killpg(pid, signal.SIGKILL)

    def pid(self, part: str) -> int:
        """0 while it is being started again."""
        try:
            return int(json.loads((self.var / "run" / f"{part}.pid").read_text())["pid"])
        except (FileNotFoundError, ValueError):
            return 0

    def groups(self) -> list[int]:
        """The process groups of everything that runs."""
        return [self.pid(file.stem) for file in (self.var / "run").glob("*.pid")]

    def demo(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.var / "demo.json").read_text())
        return document

    def is_ready(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def wait_ready(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            assert time.monotonic() < deadline, "not ready again"
            time.sleep(0.1)


def group_lives(pid: int) -> bool:
    """Whether a process of this group does more than wait to be reaped."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            return True
    return False
