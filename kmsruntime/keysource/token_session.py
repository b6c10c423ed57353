"""The customer's token over time: looked up once, renewed when due, dropped when it cannot be kept.

As Spring Vault's LifecycleAwareSessionManager, with two differences: an outage never drops the token, and what happened is
told (`facts`). Waiting is on the monotonic clock; moments that are told are on the wall clock.
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
JITTER: Final = 0.2


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
        self._lease_ends = 0.0
        self._failures = 0
        self._looked_up_at: int | None = None
        self._renewed_at: int | None = None
        self.problem = ""
        self.dropped = False

    def due(self, now: float) -> bool:
        """Whether `renew` has something to do. now: of the monotonic clock."""
        return self._due is not None and now >= self._due

    def seconds_left(self, now: float) -> float | None:
        """Until `renew` has something to do, None when it never has again. now: of the monotonic clock."""
        return None if self._due is None else max(self._due - now, 0)

    def renew(self) -> None:
        """Look the token up the first time, renew it later. Raises nothing: what went wrong is `problem`."""
        outage = self._attempt(self._look_up if self._token is None else self._renew)
        if outage == "refused":
            outage = self._attempt(self._find_out_why)
        if outage:
            self._try_again(outage)

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
            self.problem, self._due = "token_use_limited", None

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
        self._token, self._lease_ends, self._failures, self.problem = token, now + token.ttl, 0, ""
        self._forecast = forecast(token, self._lifecycle, self._wall(), lease)
        self._due = next_renewal(token, self._lifecycle, now)

    def _find_out_why(self) -> None:
        """A live token may ask for the mounts it can reach, whatever its policy; a dead one may not."""
        status, _ = self._vault.status_of("GET", "sys/internal/ui/mounts")
        if status == 200 and self._token is None:
            self.problem, self._due = "token_lookup_denied", None  # usable, never renewed, as with Spring
        elif status == 200:
            self._drop("renewal_denied", self._lease_ends - self._ticks())
        elif status == 403 and self._token is None:
            self._drop("token_invalid", 0)
        elif status == 403:
            self._drop("token_expired" if self._ticks() >= self._lease_ends else "token_revoked", 0)
        else:
            raise VaultMisconfigured("namespace_missing" if status == 404 else "vault_failing", "The vault fails.")

    def _drop(self, code: str, left: float) -> None:
        """No more renewals; `left`: seconds the token itself still lives."""
        self.problem, self.dropped, self._due = code, True, None
        if self._forecast is not None:
            foreseen = code == "token_expired" and self._forecast.ends is not None
            because = self._forecast.because if foreseen else "ttl"
            self._forecast = Forecast(None, None, int(self._wall() + max(left, 0)), because, True)

    def _try_again(self, code: str) -> None:
        """1 s, 2 s, 4 s … a minute; sooner when the token would not live to see it."""
        wait = min(2.0**self._failures, MOST_WAIT)
        left = self._lease_ends - self._ticks()
        if left > 0:
            wait = min(wait, left / 4)
        wait *= 1 + random.uniform(0, JITTER)  # noqa: S311 spreads load, hides nothing
        self.problem, self._failures = code, self._failures + 1
        self._due = self._ticks() + max(wait, LEAST_WAIT)
