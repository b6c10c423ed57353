"""The customer's token over time: looked up once, renewed when due, dropped when it cannot be kept.

As Spring Vault's LifecycleAwareSessionManager, with three differences: an outage never drops the token, in between it is
seen every few minutes whether the token lives, and what happened is told (`facts`). Waiting is on the monotonic clock;
moments that are told are on the wall clock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from kmscore.byov.customer import Lifecycle
from kmscore.byov.token import (
    LEAST_WAIT,
    Forecast,
    Token,
    TokenUnreadable,
    forecast,
    is_expired,
    is_lifetime,
    next_renewal,
    read_token,
)
from kmscore.vaultclient.answers import VaultError, VaultMisconfigured, VaultRefused
from kmscore.vaultclient.client import Vault

MOST_WAIT: Final = 60.0
LOOK_SECONDS: Final = 300.0  # between two looks at a token that is renewed later, or never
JITTER: Final = 0.2
_FACTS: Final = (
    *("ttl", "period", "ends", "because", "certain", "renews_every", "next_renewal", "looked_up_at", "renewed_at"),
    *("problem", "dropped"),
)
LIVES: Final = ("", "token_lookup_denied", "token_use_limited", "renewal_denied")  # problems of one that opens a store


class TokenSession:
    """For one thread. `problem` is a code, "" when all is well; `dropped` says that the token is not renewed any more.

    Codes (kmscore/byov/verdicts.py has their words): token_invalid, token_lookup_denied, token_use_limited, token_expired,
    token_revoked, renewal_denied, and those of the vault's client for an outage.
    """

    def __init__(
        self,
        vault: Vault,
        lifecycle: Lifecycle,
        *,
        wall: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault, self._lifecycle, self._wall, self._ticks = vault, lifecycle, wall, ticks
        self._token: Token | None = None
        self._forecast: Forecast | None = None
        self._due: float | None = ticks()
        self._look: float | None = None  # when it is to be seen whether the token lives, without renewing it
        self._standing = ""  # the problem that stays while it lives
        self._lease_ends = 0.0
        self._failures = 0
        self._looked_up_at: int | None = None
        self._renewed_at: int | None = None
        self.problem = ""
        self.dropped = False

    def due(self, now: float) -> bool:
        """Whether `renew` has something to do. now: of the monotonic clock."""
        return self.seconds_left(now) == 0

    def seconds_left(self, now: float) -> float | None:
        """Until `renew` has something to do, None when it never has again. now: of the monotonic clock."""
        moments = [one for one in (self._due, self._look) if one is not None]
        return max(min(moments) - now, 0) if moments else None

    def renew(self) -> None:
        """Look the token up the first time, renew it later; in between see whether it lives.

        Raises nothing: what went wrong is `problem`.
        """
        if self._is_only_to_be_seen():
            outage = self._attempt(self._see)
            if outage:
                self._look = self._again(outage)
            return
        outage = self._attempt(self._look_up if self._token is None else self._renew)
        if outage == "refused":
            outage = self._attempt(self._find_out_why)
        if outage:
            self._due, self._look = self._again(outage), None

    def _is_only_to_be_seen(self) -> bool:
        now = self._ticks()
        return self._look is not None and now >= self._look and not (self._due is not None and now >= self._due)

    @staticmethod
    def no_facts(problem: str) -> dict[str, Any]:
        """As `facts`, of a token that is not used: nothing is known of it but why."""
        return dict.fromkeys(_FACTS) | {"because": "", "certain": False, "problem": problem, "dropped": False}

    def facts(self) -> dict[str, Any]:
        """For the report: ttl, period, renews_every in seconds; the moments in seconds since 1970; None for unknown or none.

        ttl: as the last look-up or renewal gave it. because and certain: of kmscore.byov.token.Forecast, "" and False
        before the first look-up.
        """
        token, told = self._token, self._forecast
        renewing = told if self._due is not None else None
        return {
            "ttl": token.ttl if token else None,
            "period": token.period if token else None,
            "ends": told.ends if told else None,
            "because": told.because if told else "",
            "certain": told.certain if told else False,
            "renews_every": renewing.renews_every if renewing else None,
            "next_renewal": renewing.next_renewal if renewing else None,
            "looked_up_at": self._looked_up_at,
            "renewed_at": self._renewed_at,
            "problem": self.problem,
            "dropped": self.dropped,
        }

    # -- one attempt -----------------------------------------------------------------------------------------------

    def _attempt(self, step: Callable[[], None]) -> str:
        """The code of an outage, ``refused`` when the vault said no, "" when it went well."""
        try:
            step()
        except VaultRefused:
            return "refused"
        except VaultError as error:
            return error.code
        return ""

    def _look_up(self) -> None:
        try:
            token = read_token(self._vault.lookup_self())
        except TokenUnreadable:
            token = None
        if token is None:
            raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
        self._looked_up_at = int(self._wall())
        self._hold(token, None)
        if token.num_uses:  # each renewal would use it up a little more
            self.problem, self._due, self._look = "token_use_limited", None, None  # and so would each look

    def _renew(self) -> None:
        assert self._token is not None
        renewed = self._vault.renew_self()
        lease, renewable = renewed.get("lease_duration"), renewed.get("renewable")
        if type(lease) is not int or not is_lifetime(lease) or type(renewable) is not bool:
            raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
        self._renewed_at = int(self._wall())
        self._hold(replace(self._token, ttl=lease, renewable=renewable), lease)
        if is_expired(lease, self._lifecycle):
            self._drop("token_expired", lease)

    def _hold(self, token: Token, lease: int | None) -> None:
        now = self._ticks()
        self._token, self._lease_ends, self._failures = token, now + token.ttl, 0
        self.problem = self._standing = ""
        self._forecast = forecast(token, self._lifecycle, self._wall(), lease)
        self._due = next_renewal(token, self._lifecycle, now)
        self._look_later()

    def _find_out_why(self) -> None:
        if not self._lives():
            self._bury()
        elif self._token is None:
            self.problem, self._due = "token_lookup_denied", None  # usable, never renewed, as with Spring
            self._look_later()
        else:
            self._drop("renewal_denied", self._lease_ends - self._ticks())
            self._look_later()

    def _see(self) -> None:
        if self._lives():
            self.problem, self._failures = self._standing, 0
            self._look_later()
        else:
            self._bury()

    def _lives(self) -> bool:
        """A live token may ask for the mounts it can reach, whatever its policy; a dead one may not. Raises VaultError."""
        status, _ = self._vault.status_of("GET", "sys/internal/ui/mounts")
        if status not in (200, 403):
            raise VaultMisconfigured("namespace_missing" if status == 404 else "vault_failing", "The vault fails.")
        return status == 200

    def _look_later(self) -> None:
        """Of a token in this state it is to be seen whether it goes on living."""
        self._standing = self.problem
        self._look = self._ticks() + LOOK_SECONDS * (1 + random.uniform(0, JITTER))  # noqa: S311 as below

    def _bury(self) -> None:
        if self._token is None:
            self._drop("token_invalid", 0)
        else:
            self._drop("token_expired" if self._ticks() >= self._lease_ends else "token_revoked", 0)

    def _drop(self, code: str, left: float) -> None:
        """No more renewals; `left`: seconds the token itself still lives."""
        self.problem, self.dropped, self._due, self._look = code, True, None, None
        if self._forecast is not None:
            foreseen = code == "token_expired" and self._forecast.ends is not None
            because = self._forecast.because if foreseen else "ttl"
            self._forecast = Forecast(None, None, int(self._wall() + max(left, 0)), because, True)

    def _again(self, code: str) -> float:
        """The moment for the next try: 1 s, 2 s, 4 s … a minute; sooner when the token would not live to see it."""
        wait = min(2.0**self._failures, MOST_WAIT)
        left = self._lease_ends - self._ticks()
        if left > 0:
            wait = min(wait, left / 4)
        wait *= 1 + random.uniform(0, JITTER)  # noqa: S311 spreads load, hides nothing
        self.problem, self._failures = code, self._failures + 1
        return self._ticks() + max(wait, LEAST_WAIT)
