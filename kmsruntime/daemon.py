"""`run`: sync every few seconds, back off while something is wrong, stop cleanly when told to.

Waiting is on the monotonic clock, so a jump of the wall clock neither stops nor floods the portal.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

from kmscore.backoff import backoff_seconds, jittered
from kmsruntime.container import Container
from kmsruntime.disk.home import Home
from kmsruntime.errors import RuntimeProblem, describe_unexpected
from kmsruntime.keysource.token_renewer import TokenRenewer
from kmsruntime.sync import Synchroniser

POLL_SECONDS: Final = 5.0
MOST_SECONDS: Final = 300.0
HANDOVER_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 1.0  # between two looks at what became of the customer's token
FIRST_CHECK_SECONDS: Final = 10.0  # a thousand containers that start at once spread out
STOP_SECONDS: Final = 3.0  # from SIGTERM until a call that has not ended is broken off
JITTER: Final = 0.2  # each wait is up to this part shorter or longer: a thousand containers spread out


class _BrokenOff(BaseException):
    """A call took too long after SIGTERM: it is left as `kill -9` would leave it, which loses nothing."""


class Daemon:
    """Runs until SIGTERM or SIGINT, or until `stop()`."""

    def __init__(self, home: Home, say: Callable[[str], None], poll: float = POLL_SECONDS) -> None:
        self._home, self._say, self._poll = home, say, poll
        self._stopping = threading.Event()
        self._failures = 0
        self._said = ""
        self._patience = 0.0
        self._next_check = time.monotonic() + jittered(FIRST_CHECK_SECONDS / 2, 1.0)
        self._ended = False

    def stop(self, signal_number: int = 0, frame: FrameType | None = None) -> None:
        if signal_number and not self._stopping.is_set():
            signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS)
        self._stopping.set()

    def run(self) -> None:
        """Raises Busy when another daemon runs here, NotEnrolled, StoreDamaged for damaged credentials."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        signal.signal(signal.SIGALRM, self._break_off)
        with suppress(_BrokenOff):
            self._keep_up()
        self._ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._say("Stopped.")

    def _break_off(self, signal_number: int, frame: FrameType | None) -> None:
        """In the middle of whatever it waits for: a vault, the portal, a name server."""
        if not self._ended:
            raise _BrokenOff

    def _keep_up(self) -> None:
        with self._home.only_daemon():
            synchroniser = Synchroniser(Container(self._home), self._wait_for_portal, self._say)
            with TokenRenewer(synchroniser.sources, self._say) as renewer:
                self._say("Started.")
                with suppress(RuntimeProblem):  # a first sync may wait for the portal longer than the token lives
                    renewer.look(synchroniser.sealed_state.header())
                while not self._stopping.is_set():
                    self._sync(synchroniser)
                    self._check_itself(synchroniser)
                    self._wait_watching(self._pause(), synchroniser, renewer)

    def _check_itself(self, synchroniser: Synchroniser) -> None:
        """Every few minutes; whatever comes of it, syncing goes on."""
        if self._stopping.is_set() or time.monotonic() < self._next_check:
            return
        wait = synchroniser.self_check.run()
        self._next_check = time.monotonic() + jittered(wait, JITTER)

    def _wait_watching(self, seconds: float, synchroniser: Synchroniser, renewer: TokenRenewer) -> None:
        """Wait, and in the meantime tell what becomes of the customer's token."""
        ends = time.monotonic() + seconds
        while not self._stopping.is_set():
            try:
                self._watch(synchroniser, renewer)
            except RuntimeProblem:
                pass  # the next sync meets the same trouble and says it
            except Exception as error:  # noqa: BLE001 the values are kept up to date all the same
                self._failures += 1
                self._tell(describe_unexpected(error))
                self._wait(ends - time.monotonic())
                return
            left = ends - time.monotonic()
            if left <= 0 or not self._wait(min(left, WATCH_SECONDS) if renewer.is_watching else left):
                return

    def _watch(self, synchroniser: Synchroniser, renewer: TokenRenewer) -> None:
        if synchroniser.sealed_state.is_open() and renewer.look(synchroniser.sealed_state.header()):
            synchroniser.reporter.set_token_facts(renewer.facts)
            synchroniser.reporter.resend()

    def _sync(self, synchroniser: Synchroniser) -> None:
        self._patience = time.monotonic() + HANDOVER_SECONDS
        try:
            outcome = synchroniser.sync()
        except RuntimeProblem as problem:
            self._failures += 1
            self._tell(f"{problem.sentence} [{problem.code}]")
            return
        except Exception as error:  # noqa: BLE001 whatever a server says, the next sync is tried
            self._failures += 1
            self._tell(describe_unexpected(error))
            return
        if self._failures:
            self._say("Works again.")
        self._failures, self._said = 0, ""
        if outcome.result == "unchanged":
            return
        if outcome.result == "detached":
            self._tell(outcome.sentence)
        else:
            self._say(outcome.sentence)

    def _tell(self, line: str) -> None:
        """The same line once, not every five seconds."""
        if line != self._said and not self._stopping.is_set():
            self._say(line)
        self._said = line

    def _pause(self) -> float:
        """5 s; while something is wrong 5 s, 10 s, 20 s … 5 min; each with jitter."""
        return backoff_seconds(max(self._failures - 1, 0), self._poll, MOST_SECONDS, spread=JITTER)

    def _wait_for_portal(self, seconds: float) -> bool:
        """Within one sync; a hand-over that takes longer goes on in the next one."""
        return time.monotonic() < self._patience and self._wait(seconds)

    def _wait(self, seconds: float) -> bool:
        return not self._stopping.wait(seconds)
