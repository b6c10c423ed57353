"""A customer's token over time, with real tokens that live for seconds."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kmscore.byov.customer import Lifecycle
from kmscore.vaultclient.client import Vault
from kmsruntime.keysource import token_session
from kmsruntime.keysource.token_session import TokenSession
from tests.kmscore.byov.situations import configured_openbao, lying
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.servers import OpenBao, free_port, start_openbao

QUICK = Lifecycle(True, refresh_before_expiry=1.5, expiry_threshold=1.0)
LOOKUP = 'path "auth/token/lookup-self" { capabilities = ["read"] }'
RENEW = 'path "auth/token/renew-self" { capabilities = ["update"] }'


@pytest.fixture(scope="module")
def server() -> Iterator[OpenBao]:
    found = start_openbao()
    yield found
    found.stop()


@dataclass
class Scene:
    """A token, its session, and how many times the session had something to do."""

    root: Vault
    vault: Vault
    token: str
    session: TokenSession
    attempts: int = 0

    def live(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """As the daemon does: look every moment whether something is due."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            if self.session.due(time.monotonic()):
                self.session.renew()
                self.attempts += 1
            time.sleep(0.02)

    @property
    def facts(self) -> dict[str, Any]:
        return self.session.facts()

    @property
    def is_alive(self) -> bool:
        return self.vault.status_of("GET", "sys/internal/ui/mounts")[0] == 200


@pytest.fixture
def scene(server: OpenBao) -> Callable[..., Scene]:
    root = Vault(server.address, token=server.root_token)

    def make(*policy: str, lifecycle: Lifecycle = QUICK, **options: Any) -> Scene:
        name = f"p-{secrets.token_hex(4)}"
        root.call("POST", f"sys/policies/acl/{name}", {"policy": "\n".join(policy or (LOOKUP, RENEW))})
        body = {"policies": [name], "no_parent": True, "no_default_policy": True} | options
        token = str(root.call("POST", "auth/token/create", body)["auth"]["client_token"])
        vault = root.with_token(token)
        return Scene(root, vault, token, TokenSession(vault, lifecycle))

    return make


def test_a_periodic_token_of_3_seconds_lives_on(scene: Callable[..., Scene]) -> None:
    on = scene(period="3s")
    on.live(8)
    facts = on.facts
    assert on.is_alive
    assert (facts["problem"], facts["dropped"], facts["ends"], facts["because"]) == ("", False, None, "no_end")
    assert (facts["ttl"], facts["period"], facts["renews_every"]) == (3, 3, 1)
    assert facts["looked_up_at"] < facts["renewed_at"] <= time.time()
    assert 4 <= on.attempts <= 8


def test_without_renewal_the_same_token_is_dead(scene: Callable[..., Scene]) -> None:
    on = scene(period="3s", lifecycle=Lifecycle(False))
    on.live(4.2)
    assert on.attempts == 1  # the look-up
    assert not on.is_alive
    assert (on.facts["because"], on.facts["next_renewal"]) == ("lifecycle_off", None)
    assert on.facts["ends"] <= time.time()


@pytest.mark.parametrize(
    ("options", "because"),
    [({"ttl": "4s", "explicit_max_ttl": "6s"}, "explicit_max"), ({"period": "4s", "explicit_max_ttl": "6s"}, "explicit_max")],
)  # fmt: skip
def test_a_shrinking_lease_makes_the_end_certain_and_then_the_token_is_dropped(
    scene: Callable[..., Scene], options: dict[str, str], because: str
) -> None:
    began = time.time()
    on, made = scene(**options), time.time()
    on.live(7, lambda: on.facts["ttl"] is not None)
    whole = on.facts["ttl"]  # of the look-up, which may have been a moment later
    assert (whole >= 4 - 1 - (time.time() - began), on.facts["renewed_at"]) == (True, None)
    on.live(7, lambda: on.facts["renewed_at"] is not None and on.facts["ttl"] < whole)
    assert on.facts["ttl"] < whole
    assert (on.facts["because"], on.facts["certain"]) == (because, True)
    assert began + 6 - 1.5 <= on.facts["ends"] <= made + 6 + 1.5  # leases are whole seconds
    on.live(7, lambda: on.facts["dropped"])
    assert (on.facts["problem"], on.facts["next_renewal"]) == ("token_expired", None)
    assert not on.session.due(time.monotonic() + 1e6)


def test_the_mounts_maximum_is_a_guess_until_a_lease_shrinks() -> None:
    with configured_openbao('max_lease_ttl = "6s"\ndefault_lease_ttl = "4s"', dev=True) as small:
        root = Vault(small.address, token="root")
        token = root.call("POST", "auth/token/create", {"policies": ["default"], "no_parent": True})["auth"]
        vault = root.with_token(token["client_token"])
        on = Scene(root, vault, token["client_token"], TokenSession(vault, QUICK))
        on.live(1)
        assert (on.facts["because"], on.facts["certain"]) == ("max_ttl_default", False)
        on.live(6, lambda: on.facts["certain"])
        assert on.facts["because"] == "max_ttl"
        assert abs(on.facts["ends"] - time.time()) <= 6


def test_a_lease_that_is_too_short_is_dropped_at_its_first_renewal(scene: Callable[..., Scene]) -> None:
    on = scene(period="3s", lifecycle=Lifecycle(True, refresh_before_expiry=2.0, expiry_threshold=5.0))
    on.live(0.2)
    assert (on.facts["because"], on.facts["renews_every"]) == ("threshold", None)
    on.live(3, lambda: on.facts["dropped"])
    assert on.facts["problem"] == "token_expired"
    assert on.is_alive


def test_a_token_that_is_revoked_while_it_lives_is_noticed_at_the_next_renewal(scene: Callable[..., Scene]) -> None:
    on = scene(period="4s")
    on.live(0.5)
    on.root.call("POST", "auth/token/revoke", {"token": on.token})
    on.live(4, lambda: on.facts["dropped"])
    assert on.facts["problem"] == "token_revoked"
    assert on.facts["ends"] <= time.time()
    assert not on.session.due(time.monotonic() + 1e6)


def test_a_policy_without_renewal_drops_the_session_and_not_the_token(scene: Callable[..., Scene]) -> None:
    on = scene(LOOKUP, period="3s")
    on.live(3, lambda: on.facts["dropped"])
    assert (on.facts["problem"], on.is_alive) == ("renewal_denied", True)
    assert 0 <= on.facts["ends"] - time.time() + 1 <= 3


def test_a_policy_without_looking_up_means_a_token_that_is_never_renewed(scene: Callable[..., Scene]) -> None:
    on = scene(RENEW, period="60s")
    on.live(0.3)
    facts = on.facts
    assert (facts["problem"], facts["dropped"], facts["ttl"], facts["ends"]) == (
        "token_lookup_denied",
        False,
        None,
        None,
    )
    assert on.attempts == 1


def test_a_dead_token_is_told_from_a_poor_one(scene: Callable[..., Scene]) -> None:
    on = scene(period="60s")
    on.root.call("POST", "auth/token/revoke", {"token": on.token})
    on.live(0.3)
    assert (on.facts["problem"], on.facts["dropped"]) == ("token_invalid", True)


@pytest.mark.parametrize(
    ("options", "because", "problem"),
    [
        ({"ttl": "60s", "renewable": False}, "not_renewable", ""),
        ({"ttl": "60s", "num_uses": 5}, "max_ttl_default", "token_use_limited"),
    ],
)
def test_tokens_that_are_never_renewed(
    scene: Callable[..., Scene], options: dict[str, Any], because: str, problem: str
) -> None:
    on = scene(**options)
    on.live(1.5)
    assert (on.attempts, on.facts["because"], on.facts["problem"]) == (1, because, problem)
    assert (on.facts["renews_every"], on.facts["next_renewal"]) == (None, None)


SEEN_OFTEN = 0.3  # instead of every few minutes


@pytest.mark.parametrize(
    ("policy", "options", "before", "after"),
    [
        ((), {"period": "24h"}, "", "token_revoked"),
        ((), {"ttl": "1h", "renewable": False}, "", "token_revoked"),
        ((RENEW,), {"period": "24h"}, "token_lookup_denied", "token_invalid"),
    ],
    ids=["renewed in a day", "never renewed", "not looked up"],
)
def test_a_token_that_is_not_renewed_soon_is_seen_to_be_dead_soon(
    scene: Callable[..., Scene],
    monkeypatch: pytest.MonkeyPatch,
    policy: tuple[str, ...],
    options: dict[str, Any],
    before: str,
    after: str,
) -> None:
    monkeypatch.setattr(token_session, "LOOK_SECONDS", SEEN_OFTEN)
    on = scene(*policy, **options)
    on.live(5, lambda: on.attempts >= 4)
    assert (on.facts["problem"], on.facts["dropped"], on.facts["renewed_at"]) == (before, False, None)
    on.root.call("POST", "auth/token/revoke", {"token": on.token})
    on.live(5, lambda: on.facts["dropped"])
    assert on.facts["problem"] == after
    assert not on.session.due(time.monotonic() + 1e6)


def test_a_token_that_is_dropped_and_lives_is_seen_to_end(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_session, "LOOK_SECONDS", SEEN_OFTEN)
    on = scene(LOOKUP, period="4s")
    on.live(5, lambda: on.facts["dropped"])
    assert on.facts["problem"] == "renewal_denied"
    on.live(8, lambda: on.facts["problem"] != "renewal_denied")
    assert (on.facts["problem"], on.is_alive) == ("token_expired", False)


def test_looking_uses_up_no_token(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_session, "LOOK_SECONDS", SEEN_OFTEN)
    on = scene(ttl="60s", num_uses=5)
    on.live(1.5)
    assert (on.attempts, on.facts["problem"]) == (1, "token_use_limited")


def test_a_vault_that_does_not_answer_a_look_is_said_until_it_does(
    server: OpenBao, scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood before it stands again, and nothing is renewed for it."""
    monkeypatch.setattr(token_session, "LOOK_SECONDS", SEEN_OFTEN)
    on = scene(RENEW, period="24h")
    on.session = TokenSession(Vault(server.address, token=on.token, timeout=(0.3, 0.3)), QUICK)
    on.live(3, lambda: on.attempts >= 2)
    server.process.send_signal(signal.SIGSTOP)
    try:
        on.live(5, lambda: on.facts["problem"] == "vault_timeout")
        assert (on.facts["problem"], on.facts["dropped"]) == ("vault_timeout", False)
    finally:
        server.process.send_signal(signal.SIGCONT)
    on.live(8, lambda: on.facts["problem"] != "vault_timeout")
    assert (on.facts["problem"], on.facts["renewed_at"]) == ("token_lookup_denied", None)


def test_an_outage_is_waited_out_and_never_drops_the_token() -> None:
    port = free_port()
    with misbehaving(Misbehaving.SERVER_ERROR, port):
        session = TokenSession(Vault(f"http://127.0.0.1:{port}", token="s.x"), QUICK)
        session.renew()
        assert (session.facts()["problem"], session.dropped) == ("vault_failing", False)
    session.renew()
    assert session.facts()["problem"] == "vault_unreachable"
    assert not session.due(time.monotonic() + 0.9)
    server = start_openbao(port)
    try:
        deadline = time.monotonic() + 10
        while session.problem.startswith("vault_") and time.monotonic() < deadline:
            if session.due(time.monotonic()):
                session.renew()
            time.sleep(0.05)
        assert session.problem == "token_invalid"  # it answers again, and does not know this token
    finally:
        server.stop()


@pytest.mark.parametrize("lease", [-1, 10**15, True, "3"])
def test_a_renewal_that_cannot_be_true_is_tried_again(
    server: OpenBao, scene: Callable[..., Scene], lease: object
) -> None:
    def lie(body: bytes) -> bytes:
        found = json.loads(body)
        found["auth"]["lease_duration"] = lease
        return json.dumps(found).encode()

    on, early = scene(period="8s"), Lifecycle(True, refresh_before_expiry=7.5, expiry_threshold=1.0)
    with lying(server.address, "auth/token/renew-self", lie) as address:
        on.session = TokenSession(Vault(address, token=on.token), early)
        on.live(3, lambda: on.facts["problem"] != "")
    assert (on.facts["problem"], on.facts["dropped"], on.is_alive) == ("answer_invalid", False, True)


def test_a_vault_that_hangs_and_comes_back_goes_on(server: OpenBao, scene: Callable[..., Scene]) -> None:
    on, early = scene(period="8s"), Lifecycle(True, refresh_before_expiry=7.0, expiry_threshold=1.0)
    on.session = TokenSession(Vault(server.address, token=on.token, timeout=(0.3, 0.3)), early)
    on.live(0.3)
    server.process.send_signal(signal.SIGSTOP)
    try:
        on.live(3, lambda: on.facts["problem"] != "")
        assert (on.facts["problem"], on.facts["dropped"]) == ("vault_timeout", False)
    finally:
        server.process.send_signal(signal.SIGCONT)
    on.live(4, lambda: on.facts["problem"] == "")
    assert (on.facts["problem"], on.is_alive) == ("", True)


def test_never_more_than_one_attempt_a_second(scene: Callable[..., Scene]) -> None:
    on = scene(period="2s", lifecycle=Lifecycle(True, refresh_before_expiry=60.0, expiry_threshold=0.5))
    on.live(3.5)
    assert on.attempts <= 5
    assert on.is_alive


def test_a_jump_of_the_wall_clock_neither_renews_nor_stops_renewing(scene: Callable[..., Scene]) -> None:
    made = scene(period="3s")
    session = TokenSession(made.vault, QUICK, wall=lambda: 0.0)
    session.renew()
    assert not session.due(time.monotonic())
    assert session.due(time.monotonic() + 2)
    assert session.facts()["looked_up_at"] == 0


def test_the_facts_are_plain_and_hold_no_token(scene: Callable[..., Scene]) -> None:
    on = scene(period="60s")
    on.live(0.2)
    on.session.renew()
    assert on.token not in json.dumps(on.facts) + repr(vars(on.session))
