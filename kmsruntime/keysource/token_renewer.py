"""Keeps the customer's token alive while the store is sealed with the customer's vault, and tells what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from kmscore.byov.verdicts import Step, explain
from kmsruntime.errors import CustomerVaultMisconfigured, RuntimeProblem, describe_unexpected
from kmsruntime.keysource.sources import KeySources
from kmsruntime.keysource.token_session import TokenSession
from kmsruntime.store.format import Header

RETRY_SECONDS: Final = 30.0  # until the settings or the hosted vault can be read
TOLD_SECONDS: Final = 3600.0
RENEWED_SECONDS: Final = 60.0  # a renewal is news, but not every few seconds
_SAME_SECONDS: Final = 120  # moments that differ by less are the same to people
MOST_WAIT_SECONDS: Final = 3600.0  # then looked at again; a wait without bound may be one that no clock can count
STOP_SECONDS: Final = 1.0  # a renewal that is under way may end; one that is broken off loses nothing


class TokenRenewer:
    """For the daemon's thread, which calls everything here. `facts`: of the token in use, None in hosted mode.

    The renewing itself has a thread of its own, so that no answer of another server that takes its time lets the token
    end. Only the session goes over to it, which talks to the customer's vault and to nobody else, and touches no file.
    """

    def __init__(self, sources: KeySources, say: Callable[[str], None]) -> None:
        self._sources, self._say = sources, say
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()  # guards the next four
        self._session: TokenSession | None = None
        self._found: dict[str, Any] | None = None  # the session's facts, after its last attempt
        self._failed = ""  # what nobody foresaw, in a line for people
        self._stopping = False
        self._revision = 0
        self._allowed: object = None  # what it was begun under
        self._again = 0.0
        self._told: dict[str, Any] | None = None
        self._told_at = 0.0
        self._unforeseen = ""
        self.facts: dict[str, Any] | None = None

    def __enter__(self) -> TokenRenewer:
        self._start()
        return self

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._keep_alive, name="token-renewer", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    @property
    def is_watching(self) -> bool:
        return self._session is not None

    def look(self, header: Header | None) -> bool:
        """From now on keep the token alive that this store needs; whether there is something that people should see.

        Raises nothing.
        """
        if header is None or header.source == "hosted":
            news = self.facts is not None
            self._hand_over(None)
            self.facts, self._told = None, None
            return news
        try:
            return self._look(header)
        except RuntimeProblem as problem:
            self._fail(f"Your own vault's token is not renewed: {problem.sentence} [{problem.code}]")
        except Exception as error:  # noqa: BLE001 whatever a vault says of a token, the values stay up to date
            self._fail(describe_unexpected(error))
        return False

    def _look(self, header: Header) -> bool:
        if self._thread is not None and not self._thread.is_alive():
            self._fail("The renewal of your own vault's token had ended unforeseen; it is started again. [unexpected]")
            self._start()
            return False
        now = time.monotonic()
        # Another's token says nothing of the one before; and what is not allowed any more gets none.
        is_another = (self._revision, self._allowed) != (header.settings_revision, self._sources.allowed())
        if (is_another or (self._session is None and now >= self._again)) and self._begin(header.settings_revision):
            return True
        with self._changed:
            found, failed, self._failed = self._found, self._failed, ""
        if failed:
            self._fail(failed)
            return False
        if found is None:
            return False
        self.facts = found
        if not self._is_news(now):
            return False
        problem = found["problem"]
        if problem and problem != (self._told or {}).get("problem"):
            self._say(f"Your own vault: {explain(Step('token', 'failed', problem), key='').sentence} [{problem}]")
        self._told, self._told_at = found, now
        return True

    def _fail(self, line: str) -> None:
        self._begin_again_later()
        if line != self._unforeseen:
            self._say(line)
        self._unforeseen = line

    def _begin_again_later(self) -> None:
        self._again = time.monotonic() + RETRY_SECONDS
        self._hand_over(None)
        self._told = None

    def _begin(self, revision: int) -> bool:
        """Whether there is something that people should see already."""
        self._begin_again_later()
        self._revision, self._allowed = revision, self._sources.allowed()
        try:
            customer = self._sources.customer(revision)
            if customer is not None:
                vault = self._sources.client(revision, customer)
                self._hand_over(TokenSession(vault, customer.file.lifecycle))
        except CustomerVaultMisconfigured as problem:
            self._fail(f"Your own vault's token is not renewed: {problem.sentence} [{problem.code}]")
            before, self.facts = self.facts, TokenSession.no_facts(problem.code)
            return self.facts != before
        except RuntimeProblem:
            pass  # a sync meets the same trouble and says it
        return False

    # -- between the two threads -----------------------------------------------------------------------------------

    def _hand_over(self, session: TokenSession | None) -> None:
        with self._changed:
            self._session, self._found, self._failed = session, None, ""
            self._changed.notify()

    def _keep_alive(self) -> None:
        """The thread: renew when it is due, until told to stop."""
        while (session := self._next_due()) is not None:
            found, failed = None, ""
            try:
                session.renew()
                found = session.facts()
            except Exception as error:  # noqa: BLE001 as in `look`, which tells it
                failed = describe_unexpected(error)
            with self._changed:
                if session is self._session:  # another one may have been handed over in the meantime
                    self._session, self._found, self._failed = None if failed else session, found, failed

    def _next_due(self) -> TokenSession | None:
        """Waits for a session with something to do; None: stop."""
        with self._changed:
            while not self._stopping:
                try:
                    if self._is_due():
                        return self._session
                except Exception as error:  # noqa: BLE001 as above: the thread goes on
                    self._session, self._found, self._failed = None, None, describe_unexpected(error)
        return None

    def _is_due(self) -> bool:
        """Whether the session has something to do; if not, waits until it may, or for another."""
        left = None if self._session is None else self._session.seconds_left(time.monotonic())
        if left != 0:
            self._changed.wait(None if left is None else min(left, MOST_WAIT_SECONDS))
        return left == 0

    # -- what is news ----------------------------------------------------------------------------------------------

    def _is_news(self, now: float) -> bool:
        before, after, since = self._told, self.facts, now - self._told_at
        if before is None or after is None or since >= TOLD_SECONDS:
            return True
        if any(before[name] != after[name] for name in ("because", "certain", "problem", "dropped", "renews_every")):
            return True
        if before["renewed_at"] != after["renewed_at"] and since >= RENEWED_SECONDS:
            return True
        ends = (before["ends"], after["ends"])
        return (ends[0] is None) != (ends[1] is None) or (
            None not in ends and abs(int(ends[0] or 0) - int(ends[1] or 0)) > _SAME_SECONDS
        )
