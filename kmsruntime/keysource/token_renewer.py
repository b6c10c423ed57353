"""Keeps the customer's token alive while the store is sealed with the customer's vault, and tells what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from kmsruntime.errors import RuntimeProblem, unforeseen
from kmsruntime.keysource.sources import Sources
from kmsruntime.keysource.token_session import TokenSession
from kmsruntime.store.format import Header

RETRY_SECONDS: Final = 30.0  # until the settings or the hosted vault can be read
TOLD_SECONDS: Final = 3600.0
RENEWED_SECONDS: Final = 60.0  # a renewal is news, but not every few seconds
_SAME_SECONDS: Final = 120  # moments that differ by less are the same to people
_WORDS: Final = {
    "token_invalid": "The token of your vault is not accepted: it expired, was revoked or mistyped.",
    "token_expired": "The token of your vault has expired, or its leases are too short to go on.",
    "token_revoked": "The token of your vault was revoked.",
    "renewal_denied": "Your vault does not renew the token: its policy lacks auth/token/renew-self.",
    "token_lookup_denied": "The token of your vault may not look itself up, so it is never renewed.",
    "token_use_limited": "The token of your vault has a limit of uses, so it is never renewed.",
}


class TokenWatch:
    """For the daemon. `facts`: of the token in use, None in hosted mode."""

    def __init__(self, sources: Sources, say: Callable[[str], None]) -> None:
        self._sources, self._say = sources, say
        self._session: TokenSession | None = None
        self._revision = 0
        self._again = 0.0
        self._told: dict[str, Any] | None = None
        self._told_at = 0.0
        self._unforeseen = ""
        self.facts: dict[str, Any] | None = None

    @property
    def is_watching(self) -> bool:
        return self._session is not None

    def look(self, header: Header | None) -> bool:
        """Renew when it is due; whether there is something that people should see. Raises nothing."""
        if header is None or header.source == "hosted":
            news = self.facts is not None
            self._session, self.facts, self._told = None, None, None
            return news
        try:
            return self._look(header)
        except Exception as error:  # noqa: BLE001 whatever a vault says of a token, the values stay up to date
            self._begin_again_later()
            if (line := unforeseen(error)) != self._unforeseen:
                self._say(line)
            self._unforeseen = line
            return False

    def _look(self, header: Header) -> bool:
        now = time.monotonic()
        if (self._session is None or self._revision != header.settings_revision) and now >= self._again:
            self._begin(header.settings_revision)
        if self._session is None:
            return False
        if self._session.due(time.monotonic()):  # not `now`: one that was just begun is to be looked up at once
            self._session.renew()
        self.facts = self._session.facts()
        if not self._is_news(now):
            return False
        if self.facts["problem"] and self.facts["problem"] != (self._told or {}).get("problem"):
            self._say(
                _WORDS.get(self.facts["problem"], f"Your vault fails to renew the token: {self.facts['problem']}.")
            )
        self._told, self._told_at = self.facts, now
        return True

    def _begin_again_later(self) -> None:
        self._again = time.monotonic() + RETRY_SECONDS
        self._session, self._told = None, None

    def _begin(self, revision: int) -> None:
        self._begin_again_later()
        try:
            customer = self._sources.customer(revision)
            if customer is not None:
                vault = self._sources.client(revision, customer)
                self._session, self._revision = TokenSession(vault, customer.file.lifecycle), revision
        except RuntimeProblem:
            return  # a sync meets the same trouble and says it

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
