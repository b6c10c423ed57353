"""How long a customer's token lives: when it is renewed, when it is dropped, when it ends whatever is done.

Pure. The rules are Spring Vault's LifecycleAwareSessionManager for a static token: renewal is planned from the remaining
ttl, and a token whose renewed lease is not above the threshold is dropped. Times in seconds, moments in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from kmscore.byov.customer import Lifecycle
from kmscore.wording import DAY, date, duration

LEAST_WAIT: Final = 1.0  # Spring's too: never more than one renewal a second
DEFAULT_MAX_TTL: Final = 768 * 3600  # a mount's maximum when nobody tuned it; a token cannot ask for its own mount's
WARNING_DAYS: Final = (1, 7, 30)
LONGEST: Final = 36525 * DAY  # a hundred years: no token is made to live longer
EARLIEST: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())  # no token was made before …
LATEST: Final = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp())  # … and none that is told of ends later
_MOST_USES: Final = 1 << 31


class TokenUnreadable(ValueError):
    """The answer is not what lookup-self gives, or its numbers cannot be true; never says what it held."""


@dataclass(frozen=True, slots=True)
class Token:
    """What lookup-self tells of a token. ttl: seconds left; creation_ttl: seconds it was given; period and
    explicit_max_ttl: 0 for none; num_uses: 0 for no limit."""

    ttl: int
    renewable: bool
    period: int
    explicit_max_ttl: int
    creation_time: int
    creation_ttl: int
    type: str
    orphan: bool
    root: bool
    num_uses: int
    role: str = ""  # the token role it was made by, which may give it a period that lookup-self does not show

    @property
    def full_lease(self) -> int:
        """What a renewal gives when nothing caps it. A period above the mount's maximum was capped when it was made."""
        return min(self.period or self.creation_ttl, self.creation_ttl or self.period)

    @property
    def forever(self) -> bool:
        """A root token: it has no ttl to run out."""
        return self.root and self.ttl == 0


def read_token(data: Mapping[str, Any]) -> Token:
    """Read the `data` of lookup-self, strictly: what could not be counted with later is refused. Raises TokenUnreadable."""
    policies = data.get("policies")
    found = {name: missing if data.get(name) is None else data[name] for name, missing in _MISSING.items()}
    if all(type(found[name]) is kind for name, kind in _KINDS.items()) and _is_credible(found):
        return Token(**found, root=isinstance(policies, list) and "root" in policies)
    raise TokenUnreadable("not what lookup-self gives")


def is_lifetime(seconds: int) -> bool:
    """Whether a token can live so long: not less than no time, and at most LONGEST."""
    return 0 <= seconds <= LONGEST


def _is_credible(found: Mapping[str, Any]) -> bool:
    made, spans = found["creation_time"], [found[name] for name in _SPANS]
    return (
        all(map(is_lifetime, spans))
        and made >= EARLIEST
        and made + max(*spans, DEFAULT_MAX_TTL) <= LATEST
        and -1 <= found["num_uses"] <= _MOST_USES  # -1: this look-up was the last use
    )


# Fields of lookup-self, and what a missing one means: a period is there only when there is one.
_MISSING: Final[Mapping[str, Any]] = {
    "ttl": None,
    "creation_time": None,
    "creation_ttl": None,
    "type": None,
    "renewable": False,
    "orphan": False,
    "period": 0,
    "explicit_max_ttl": 0,
    "num_uses": 0,
    "role": "",
}
_KINDS: Final[Mapping[str, type]] = {
    **dict.fromkeys(_MISSING, int),
    **{"type": str, "role": str, "renewable": bool, "orphan": bool},
}
_SPANS: Final = ("ttl", "creation_ttl", "period", "explicit_max_ttl")


def next_renewal(token: Token, lifecycle: Lifecycle, now: float) -> float | None:
    """When to renew: `refresh_before_expiry` before the remaining ttl ends, at least a second from now; None for never."""
    if not (lifecycle.enabled and token.renewable and token.ttl > 0):
        return None
    return now + max(LEAST_WAIT, token.ttl - lifecycle.refresh_before_expiry)


def is_expired(lease_seconds: float, lifecycle: Lifecycle) -> bool:
    """Whether a renewed token is dropped: its lease is not above the threshold."""
    return lease_seconds <= lifecycle.expiry_threshold


# -- the forecast ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forecast:
    """renews_every: seconds from one renewal to the next; next_renewal, ends: moments; None for none.

    because: no_end, role (unknown: the token role decides), ttl, explicit_max, not_renewable, lifecycle_off,
    max_ttl_default (a guess: 768 h from its creation), max_ttl (seen: a renewal gave less than a full lease), threshold
    (leases too short to be kept).
    """

    renews_every: int | None
    next_renewal: int | None
    ends: int | None
    because: str
    certain: bool


def forecast(token: Token, lifecycle: Lifecycle, now: float, last_lease: int | None = None) -> Forecast:
    """What becomes of a token that has `token.ttl` seconds left at `now`.

    last_lease: what the last renewal gave, None before the first. A lease below the full one means that the token has
    reached its maximum, a periodic one included: later renewals end at the same moment.
    """
    soon = next_renewal(token, lifecycle, now)
    if soon is None:
        return _without_renewal(token, lifecycle, now)
    lease = token.full_lease if last_lease is None else last_lease
    every = int(max(LEAST_WAIT, lease - lifecycle.refresh_before_expiry))
    ends, because, certain = _end(token, now, last_lease)
    if is_expired(token.full_lease, lifecycle):
        ends, because, certain = int(now + token.ttl), "threshold", True
    if is_expired(lease, lifecycle):
        return Forecast(None, int(soon) if last_lease is None else None, ends, because, certain)
    return Forecast(every, int(soon), ends, because, certain)


def _without_renewal(token: Token, lifecycle: Lifecycle, now: float) -> Forecast:
    if token.forever:
        return Forecast(None, None, None, "no_end", True)
    because = "not_renewable" if not token.renewable else "lifecycle_off" if not lifecycle.enabled else "ttl"
    return Forecast(None, None, int(now + token.ttl), because, True)


def _end(token: Token, now: float, last_lease: int | None) -> tuple[int | None, str, bool]:
    explicit = token.creation_time + token.explicit_max_ttl if token.explicit_max_ttl else None
    if last_lease is not None and last_lease < token.full_lease:
        ends = int(now + token.ttl)
        return ends, "explicit_max" if explicit is not None and explicit <= ends + 2 else "max_ttl", True
    if explicit is not None:
        return explicit, "explicit_max", True
    if token.period:
        return None, "no_end", True
    if token.role:
        return None, "role", False
    return max(token.creation_time + DEFAULT_MAX_TTL, int(now + token.ttl)), "max_ttl_default", False


def warning_level(ends: float | None, now: float) -> int:
    """1, 7 or 30: at most so many days are left. 0: more, or no end. For any number, as all that follow."""
    if ends is None:
        return 0
    return next((days for days in WARNING_DAYS if ends <= now + days * DAY), 0)


_ENDINGS: Final = {
    "no_end": "no end",
    "role": "its token role decides when it ends; nothing says so yet",
    "ttl": "works until {date}",
    "explicit_max": "works until {date}, whatever is done",
    "max_ttl": "works until {date}, whatever is done",
    "max_ttl_default": "works until about {date}, when the vault's maximum is the default of 32 days",
    "not_renewable": "cannot be renewed; works until {date}, whatever is done",
    "lifecycle_off": "renewal is turned off; works until {date}",
    "threshold": "leases are not longer than the expiry threshold: dropped at the next renewal; works until {date}",
}


def sentence_of(forecast: Forecast, now: float) -> str:
    """For people: "renews every 23 h 59 min; no end". Dates in UTC, with the time when less than two days are left."""
    renewing = f"renews every {duration(forecast.renews_every)}; " if forecast.renews_every is not None else ""
    if forecast.ends is None:
        return renewing + _ENDINGS["role" if forecast.because == "role" else "no_end"]
    moment = date(forecast.ends, now)
    if forecast.ends <= now:
        return f"ended on {moment}"
    return renewing + _ENDINGS.get(forecast.because, _ENDINGS["ttl"]).format(date=moment)
