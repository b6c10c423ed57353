"""The rules of a token's life: when it is renewed, when it is dropped, when it ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kmscore.byov.customer import Lifecycle
from kmscore.byov.token import (
    LONGEST,
    Forecast,
    Token,
    TokenUnreadable,
    forecast,
    is_expired,
    next_renewal,
    read_token,
    sentence_of,
    warning_level,
)
from kmscore.wording import DAY, duration, moment_of

NOW = int(datetime(2027, 2, 1, 12, tzinfo=UTC).timestamp())
SEED = Lifecycle(True, refresh_before_expiry=10.0, expiry_threshold=20.0)
PERIODIC = Token(
    *(DAY, True, DAY, 0, NOW - 100, DAY),
    *("service", True, False, 0),
)
PLAIN = replace(PERIODIC, period=0)
LOOKED_UP: dict[str, Any] = {
    "ttl": 3600,
    "creation_time": NOW,
    "creation_ttl": 7200,
    "type": "service",
    "renewable": True,
    "orphan": True,
    "explicit_max_ttl": 0,
    "num_uses": 0,
    "policies": ["kms"],
}


def test_a_look_up_is_read_and_a_missing_period_is_none() -> None:
    assert read_token(LOOKED_UP) == Token(3600, True, 0, 0, NOW, 7200, "service", True, False, 0)
    assert read_token(LOOKED_UP | {"period": 60}).period == 60
    assert read_token(LOOKED_UP | {"policies": ["root"]}).root


def test_a_token_of_a_role_has_no_known_end_until_a_renewal_gives_less() -> None:
    """Its period is the role's, and look-up does not show it."""
    by_role = replace(PLAIN, role="atoms")
    assert read_token(LOOKED_UP | {"role": "atoms"}).role == "atoms"
    assert read_token(LOOKED_UP | {"role": None}).role == ""
    found = forecast(by_role, SEED, NOW)
    assert (found.ends, found.because, found.certain) == (None, "role", False)
    assert (
        sentence_of(found, NOW) == "renews every 23 h 59 min; its token role decides when it ends; nothing says so yet"
    )
    assert forecast(by_role, SEED, NOW, last_lease=DAY - 3600).because == "max_ttl"
    assert forecast(replace(by_role, explicit_max_ttl=5 * DAY), SEED, NOW).because == "explicit_max"


@pytest.mark.parametrize("broken", [{"ttl": "3600"}, {"ttl": True}, {"type": None}, {"renewable": 1}, {"period": 1.5}])
def test_a_look_up_of_another_shape_is_refused_without_showing_it(broken: dict[str, Any]) -> None:
    with pytest.raises(TokenUnreadable) as caught:
        read_token(LOOKED_UP | broken | {"id": "canary"})
    assert "canary" not in repr(caught.value)
    with pytest.raises(TokenUnreadable):
        read_token({})


@pytest.mark.parametrize("absurd", [-1, -(10**15), LONGEST + 1, 10**15, 2**63])
@pytest.mark.parametrize("name", ["ttl", "creation_ttl", "period", "explicit_max_ttl", "creation_time", "num_uses"])
def test_a_look_up_that_cannot_be_true_is_refused(name: str, absurd: int) -> None:
    if (name, absurd) in {("num_uses", -1), ("creation_time", LONGEST + 1)}:
        return  # -1 is the last use, and a moment is no span
    with pytest.raises(TokenUnreadable):
        read_token(LOOKED_UP | {name: absurd})


@pytest.mark.parametrize("made", [datetime(1999, 12, 31, tzinfo=UTC), datetime(2199, 12, 31, tzinfo=UTC)])
def test_a_token_of_another_century_is_refused(made: datetime) -> None:
    with pytest.raises(TokenUnreadable):
        read_token(LOOKED_UP | {"creation_time": int(made.timestamp())})


def test_what_people_set_for_ever_is_believed() -> None:
    century = 876_000 * 3600
    assert read_token(LOOKED_UP | {"period": century, "explicit_max_ttl": century}).period == century
    assert read_token(LOOKED_UP | {"num_uses": -1}).num_uses == -1


ABSURD = [-(10**5000), -(10**15), -1, 0, 10**15, 10**5000]


@pytest.mark.parametrize("number", ABSURD, ids=range(len(ABSURD)))
def test_words_are_found_for_any_number(number: int) -> None:
    """A container reports them, and who holds it may report anything."""
    assert 1970 <= moment_of(number).year <= 9999
    assert warning_level(number, NOW) == (0 if number > NOW else 1)
    assert len(duration(number)) < 12
    for because in ("no_end", "explicit_max", "quantum"):
        assert len(sentence_of(Forecast(number, number, number, because, True), NOW)) < 120


def test_renewal_is_planned_from_the_remaining_ttl_not_from_the_lease() -> None:
    half_gone = replace(PERIODIC, ttl=DAY // 2)
    assert next_renewal(half_gone, SEED, NOW) == NOW + DAY // 2 - 10


def test_never_more_than_one_renewal_a_second() -> None:
    assert next_renewal(replace(PERIODIC, ttl=3), SEED, NOW) == NOW + 1


@pytest.mark.parametrize(
    ("token", "lifecycle"),
    [
        (replace(PERIODIC, renewable=False), SEED),
        (replace(PERIODIC, ttl=0), SEED),
        (PERIODIC, replace(SEED, enabled=False)),
    ],
)
def test_no_renewal_without_a_lease_that_can_be_renewed(token: Token, lifecycle: Lifecycle) -> None:
    assert next_renewal(token, lifecycle, NOW) is None


def test_a_lease_of_exactly_the_threshold_is_dropped() -> None:
    assert is_expired(20, SEED)
    assert not is_expired(21, SEED)


def test_a_periodic_token_has_no_end() -> None:
    assert forecast(PERIODIC, SEED, NOW) == Forecast(DAY - 10, NOW + DAY - 10, None, "no_end", True)
    assert forecast(PERIODIC, SEED, NOW, DAY).ends is None


def test_a_plain_token_ends_32_days_after_it_was_made_as_far_as_anybody_can_tell() -> None:
    told = forecast(PLAIN, SEED, NOW)
    assert (told.ends, told.because, told.certain) == (NOW - 100 + 32 * DAY, "max_ttl_default", False)


def test_a_plain_token_that_has_longer_to_live_than_the_default_is_believed() -> None:
    year = replace(PLAIN, ttl=365 * DAY, creation_ttl=365 * DAY)
    assert forecast(year, SEED, NOW).ends == NOW + 365 * DAY


def test_a_shrinking_lease_makes_the_end_certain() -> None:
    capped = replace(PLAIN, ttl=5000)
    told = forecast(capped, SEED, NOW, 5000)
    assert (told.ends, told.because, told.certain) == (NOW + 5000, "max_ttl", True)
    assert told.renews_every == 4990


def test_a_periodic_token_that_stops_growing_is_noticed() -> None:
    told = forecast(replace(PERIODIC, ttl=5000), SEED, NOW, 5000)
    assert (told.ends, told.because, told.certain) == (NOW + 5000, "max_ttl", True)


def test_a_period_above_the_mounts_maximum_is_no_shrinking_lease() -> None:
    long = replace(PERIODIC, period=365 * DAY, creation_ttl=32 * DAY, ttl=32 * DAY)
    assert forecast(long, SEED, NOW, 32 * DAY).because == "no_end"


def test_an_explicit_maximum_ends_a_periodic_token_too() -> None:
    limited = replace(PERIODIC, explicit_max_ttl=40 * DAY)
    told = forecast(limited, SEED, NOW)
    assert (told.ends, told.because, told.certain) == (limited.creation_time + 40 * DAY, "explicit_max", True)
    near = replace(limited, creation_time=NOW + 5000 - 40 * DAY, ttl=5000)
    assert forecast(near, SEED, NOW, 5000).because == "explicit_max"


def test_leases_below_the_threshold_are_foretold() -> None:
    short = replace(PERIODIC, period=15, creation_ttl=15, ttl=15)
    told = forecast(short, SEED, NOW)
    assert (told.renews_every, told.next_renewal, told.ends, told.because) == (None, NOW + 5, NOW + 15, "threshold")


def test_a_lease_that_shrank_below_the_threshold_is_the_last_one() -> None:
    told = forecast(replace(PLAIN, ttl=15), SEED, NOW, 15)
    assert (told.renews_every, told.next_renewal, told.ends, told.because) == (None, None, NOW + 15, "max_ttl")


@pytest.mark.parametrize(
    ("token", "lifecycle", "because"),
    [
        (replace(PLAIN, renewable=False), SEED, "not_renewable"),
        (PLAIN, replace(SEED, enabled=False), "lifecycle_off"),
        (replace(PLAIN, ttl=0), SEED, "ttl"),
    ],
)
def test_without_renewal_the_ttl_is_the_end(token: Token, lifecycle: Lifecycle, because: str) -> None:
    told = forecast(token, lifecycle, NOW)
    assert (told.renews_every, told.next_renewal, told.ends) == (None, None, NOW + token.ttl)
    assert (told.because, told.certain) == (because, True)


def test_a_root_token_has_no_end() -> None:
    assert forecast(replace(PLAIN, ttl=0, root=True, renewable=False), SEED, NOW).ends is None


def test_warnings_at_30_7_and_1_days() -> None:
    levels = [warning_level(NOW + days * DAY, NOW) for days in (31, 30, 8, 7, 2, 1, 0, -1)]
    assert levels == [0, 30, 30, 7, 7, 1, 1, 1]
    assert warning_level(None, NOW) == 0


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (forecast(PERIODIC, SEED, NOW), "renews every 23 h 59 min; no end"),
        (
            Forecast(DAY - 10, NOW, int(datetime(2027, 3, 12, tzinfo=UTC).timestamp()), "explicit_max", True),
            "renews every 23 h 59 min; works until 12 March 2027, whatever is done",
        ),
        (
            forecast(PLAIN, SEED, NOW),
            "renews every 23 h 59 min; works until about 5 March 2027, when the vault's maximum is the default of 32 days",
        ),
        (
            forecast(replace(PLAIN, renewable=False), SEED, NOW),
            "cannot be renewed; works until 2 February 2027 12:00 UTC, whatever is done",
        ),
        (
            forecast(PLAIN, replace(SEED, enabled=False), NOW),
            "renewal is turned off; works until 2 February 2027 12:00 UTC",
        ),
        (Forecast(60, None, NOW - 60, "max_ttl", True), "ended on 1 February 2027 11:59 UTC"),
        (Forecast(None, None, None, "no_end", True), "no end"),
    ],
)
def test_the_forecast_in_words(told: Forecast, words: str) -> None:
    assert sentence_of(told, NOW) == words


def test_a_time_span_has_at_most_two_units() -> None:
    spans = [duration(seconds) for seconds in (0, 8.9, 60, 3600, 86390, DAY, DAY + 60, 32 * DAY)]
    assert spans == ["0 s", "8 s", "1 min", "1 h", "23 h 59 min", "1 day", "1 day", "32 days"]
