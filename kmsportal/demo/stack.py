"""Starts every part of the portal in order, watches them, and stops every process it started.

One line per step. What dies is started again; what was left behind by a killed stack is stopped first.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from kmscore.backoff import backoff_seconds
from kmsportal.demo import container, parts
from kmsportal.demo.directory import DemoError, StackDirectory, check_web_port, inner_ports, lock, open_place
from kmsportal.demo.processes import Child, stop_leftovers
from kmsportal.demo.servers import OpenBao, Valkey, wait_for
from kmsportal.demo.wheel import build_wheel

LOOK_SECONDS: Final = 0.5
RENEWAL_LOOK_SECONDS: Final = 6 * 3600.0
STEADY_SECONDS: Final = 60.0  # a part that lived this long starts again without waiting
LONGEST_PAUSE: Final = 30.0
Say = Callable[[str], None]


class Stopped(BaseException):
    """Ctrl-C, SIGTERM or a closed terminal; not an Exception, so that nothing on the way swallows it."""


@dataclass
class Watched:
    """A running part, and when to start it again if it dies."""

    child: Child
    started: float
    failures: int = 0
    again: float = 0.0


@dataclass
class Stack:
    """One embedded stack. `say` shows a line to whoever started it."""

    place: StackDirectory
    say: Say
    parts: list[Watched] = field(default_factory=list)
    openbao: OpenBao | None = None

    def start(self) -> None:
        """Every step up to a running portal. Raises DemoError; the caller stops what was started."""
        left = stop_leftovers(self.place.directory("run"))
        if left:
            self.say(f"Stopped what an earlier start left running: {', '.join(left)}.")
        check_web_port(self.place.port)
        ports = inner_ports(self.place)
        openbao = OpenBao(self.place, ports["openbao"], ports["openbao_cluster"])
        valkey = Valkey(self.place, ports["valkey"])
        for name in ("secret_key", "row_key"):
            self.place.secret(name)  # made before any data exists
        self._start_openbao(openbao)
        web = parts.environment(self.place, openbao, valkey, "web")
        self._step("Starting Valkey")
        self._watch(valkey.child)
        valkey.start()
        self._step("Preparing the database and the demo data")
        arguments = ["manage.py", "demo", "--prepare"]
        parts.run_once(self.place, "prepare", arguments, web, failure="The database cannot be prepared.")
        self._step("Building the runtime")
        build_wheel(self.place)
        self._start_portal(openbao, valkey, web)
        self._start_runtime(openbao, web)

    def _start_openbao(self, openbao: OpenBao) -> None:
        first = openbao.first_start()
        self._watch(openbao.child)
        self._step("Making the vault (OpenBao)" if first else "Starting the vault (OpenBao)")
        openbao.make() if first else openbao.start()
        self.openbao = openbao
        self._renew_if_due()

    def _renew_if_due(self) -> None:
        if self.openbao is not None and self.openbao.needs_renewal():
            self._step("Renewing the portal's vault credentials")
            self.openbao.renew()

    def _start_portal(self, openbao: OpenBao, valkey: Valkey, web: dict[str, str]) -> None:
        self._step("Starting web server and workers")
        worker = parts.environment(self.place, openbao, valkey, "worker")
        watch = parts.environment(self.place, openbao, valkey, "watch")
        shredder = parts.environment(self.place, openbao, valkey, "shredder")
        children = [
            parts.worker(self.place, worker),
            parts.bulk_worker(self.place, worker),
            parts.watch(self.place, watch),
            parts.shred_worker(self.place, shredder),
            parts.web(self.place, web),
        ]
        for child in children:
            self._watch(child)
            child.start()
        wait_for(children[-1], lambda: _is_up(f"http://127.0.0.1:{self.place.port}/ready"))

    def _start_runtime(self, openbao: OpenBao, web: dict[str, str]) -> None:
        if not container.is_enrolled(self.place, openbao.address):
            self._step("Enrolling the demo runtime")
            container.enrol(self.place, openbao.address, web)
        self._step("Starting the demo runtime")
        child = parts.runtime(self.place)
        self._watch(child)
        child.start()

    def _watch(self, child: Child) -> None:
        # Before it is started: whatever happens in between, `stop` knows it.
        self.parts.append(Watched(child, time.monotonic()))

    def watch(self) -> None:
        """Start again what dies, until Stopped."""
        renewal_look = time.monotonic() + RENEWAL_LOOK_SECONDS
        while True:
            for part in self.parts:
                self._look_at(part)
            if time.monotonic() > renewal_look:
                renewal_look += RENEWAL_LOOK_SECONDS
                self._renew_if_due()
            time.sleep(LOOK_SECONDS)

    def _look_at(self, part: Watched) -> None:
        ended = part.child.ended()
        if not ended:
            return
        now = time.monotonic()
        if not part.again:
            part.failures = 0 if now - part.started > STEADY_SECONDS else part.failures + 1
            pause = backoff_seconds(part.failures - 1, 1.0, LONGEST_PAUSE, spread=0) if part.failures > 1 else 0.0
            part.again = now + pause
            if pause < LONGEST_PAUSE:  # after that it is known, and a line every half minute hides the others
                later = f" in {pause:.0f} s" if pause else ""
                self.say(f"{part.child.name} stopped ({ended}); starting it again{later}. Log: {part.child.log}")
        if now >= part.again:
            part.child.stop()  # members of its group that outlived it
            part.child.start()
            part.started, part.again = now, 0.0

    def _step(self, title: str) -> None:
        self.say(f"{title} ...")

    def stop(self) -> None:
        """Stop everything, the servers last; each part gets its time to finish what it does."""
        servers = [part.child for part in self.parts if part.child.name in ("openbao", "valkey")]
        others = [part.child for part in self.parts if part.child not in servers]
        for group in (others, servers):
            for child in group:
                child.ask_to_stop()
            for child in group:
                child.stop()


def run(var: Path, port: int, say: Say) -> None:
    """The whole life of a stack; returns after an orderly stop. Raises DemoError."""
    _turn_signals_into_stopped()
    with ExitStack() as held:
        place = open_place(var, port)
        held.callback(lock(place).close)
        stack = Stack(place, say)
        try:
            stack.start()
            for line in welcome(place):
                say(line)
            stack.watch()
        except Stopped:
            say("Stopping.")
        finally:
            _ignore_signals()
            stack.stop()
    say("Everything is stopped; the data is kept.")


def welcome(place: StackDirectory) -> list[str]:
    """What to open and how to sign in. Raises DemoError."""
    try:
        demo: dict[str, Any] = json.loads(place.demo_file.read_text())
        width = max((len(user["email"]) for user in demo["users"]), default=0)
        logins = [f"  {user['email']:{width}}  {user['password']}  ({user['role']})" for user in demo["users"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise DemoError(f"{place.demo_file} cannot be read.", "Delete it: it will be written again.") from None
    return [
        "",
        f"KMS Portal is running: {place.url}",
        *logins,
        f"Also in {place.demo_file}. Ctrl-C stops everything.",
        "",
    ]


def _turn_signals_into_stopped() -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        _ignore_signals()
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _is_up(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
