"""Every verdict of the preflight comes from a real situation: real servers, real tokens, real networks."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kmscore.byov import preflight
from kmscore.byov.customer import CustomerVault
from kmscore.byov.preflight import VaultAnswer, refused, run, verdict
from kmscore.byov.verdicts import CODES, STEPS, Step
from kmscore.vaultclient.client import Vault
from kmsruntime.keysource.transport import ConnectionSettingsInvalid, CustomerTransport
from tests.customer import CustomersVault, start_customers_vault
from tests.kmscore.byov.situations import configured_openbao, expired_certificate, in_turn, lying, proxy, silent_port
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.servers import OpenBao, free_port, start_openbao

KEY = "acme-X1Y2Z3_3456789a"
# The caller finds these before there is anything to ask (kmsruntime/keysource/placeholders.py, kmsruntime/keysource/transport.py).
OF_THE_CALLER = {code for code, step in CODES.items() if step == "address"}
SEEN: set[str] = set()

DATAKEY = f'path "transit/datakey/+/{KEY}" {{ capabilities = ["update"] }}'
DECRYPT = f'path "transit/decrypt/{KEY}" {{ capabilities = ["update"] }}'
LOOKUP = 'path "auth/token/lookup-self" { capabilities = ["read"] }'
RENEW = 'path "auth/token/renew-self" { capabilities = ["update"] }'
ALL = (DATAKEY, DECRYPT, LOOKUP, RENEW)


@pytest.fixture(scope="module")
def customer() -> Iterator[CustomersVault]:
    server = start_customers_vault()
    server.make_key(KEY)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def plain() -> Iterator[OpenBao]:
    """Without TLS and namespace."""
    server = start_openbao()
    root = Vault(server.address, token=server.root_token)
    root.call("POST", "sys/mounts/transit", {"type": "transit"})
    root.call("POST", f"transit/keys/{KEY}", {})
    try:
        yield server
    finally:
        server.stop()


def token_of(root: Vault, *policy: str, **options: Any) -> str:
    """A periodic orphan token with these paths; options of token/create come before."""
    name = f"p-{secrets.token_hex(4)}"
    root.call("POST", f"sys/policies/acl/{name}", {"policy": "\n".join(policy or ALL)})
    body = {"policies": [name], "period": "24h", "no_parent": True, "no_default_policy": True} | options
    answer = root.call("POST", "auth/token/create", {name: value for name, value in body.items() if value is not None})
    return str(answer["auth"]["client_token"])


def look(uri: str, token: str = "s.unknown", *, wrapped: bool = True, key: str = KEY, **more: Any) -> tuple[Step, ...]:  # noqa: S107
    """Run the preflight, note what was seen, and check what holds for every run."""
    address = more.pop("proxy", "")
    settings = CustomerVault(**({"uri": uri, "token": token, "connection_timeout": 0.5, "read_timeout": 0.5} | more))
    reach = Counting(settings, proxy=address)
    steps = run(reach, key=key, wrapped=wrapped)
    SEEN.update(step.code for step in steps)
    assert tuple(step.id for step in steps) == STEPS
    failed = [position for position, step in enumerate(steps) if step.state == "failed"]
    assert all(step.state == "skipped" for position in failed for step in steps[position + 1 :])
    assert len(failed) <= 1
    assert reach.calls <= 5
    return steps


class Counting(CustomerTransport):
    calls = 0

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, **named: bool) -> VaultAnswer:
        self.calls += 1
        return super().request(method, path, body, **named)


def at(customer: CustomersVault, token: str, **more: Any) -> tuple[Step, ...]:
    defaults: dict[str, Any] = {"namespace": "/admin", "trust_store": str(customer.ca), "read_timeout": 5.0}
    return look(customer.address, token, **defaults | more)


def failure(steps: tuple[Step, ...]) -> tuple[str, str]:
    found = verdict(steps)
    assert found.state == "failed"
    return found.id, found.code


def warnings(steps: tuple[Step, ...]) -> list[str]:
    return [step.code for step in steps if step.state == "warning"]


# -- all is well -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_vault_as_the_customer_should_make_it_passes_without_a_word(customer: CustomersVault, wrapped: bool) -> None:
    steps = at(customer, customer.make_token(KEY, wrapped=wrapped), wrapped=wrapped)
    left_out = set() if wrapped else {"decrypt"}
    assert {step.id for step in steps if step.state != "ok"} == left_out
    assert verdict(steps).code == "ok"


def test_nothing_is_written_and_no_use_is_burned_but_one(customer: CustomersVault) -> None:
    token = token_of(customer.root, num_uses=5)
    assert failure(at(customer, token)) == ("use_limit", "token_use_limited")
    left = customer.root.call("POST", "auth/token/lookup", {"token": token})["data"]["num_uses"]
    assert left == 4
    key = customer.root.call("GET", f"transit/keys/{KEY}")["data"]
    assert key["latest_version"] == 1


# -- the way -----------------------------------------------------------------------------------------------------------


def test_a_name_that_does_not_resolve() -> None:
    assert failure(look("https://nobody.invalid:8200")) == ("dns", "vault_dns")


def test_a_closed_port() -> None:
    assert failure(look(f"https://127.0.0.1:{free_port()}")) == ("tcp", "vault_refused")


def test_a_firewall_that_drops_packets() -> None:
    with silent_port(full=True) as port:
        assert failure(look(f"https://127.0.0.1:{port}")) == ("tcp", "vault_timeout")


@pytest.mark.parametrize(("scheme", "step"), [("https", "tls"), ("http", "vault")])
def test_a_server_that_never_answers(scheme: str, step: str) -> None:
    with silent_port() as port:
        assert failure(look(f"{scheme}://127.0.0.1:{port}")) == (step, "vault_timeout")


def test_a_proxy_lets_through_refuses_or_is_not_there(customer: CustomersVault) -> None:
    token = customer.make_token(KEY)
    with proxy() as (address, asked):
        assert verdict(at(customer, token, proxy=address)).code == "ok"
        assert set(asked) == {customer.address.removeprefix("https://")}
    with proxy(allows=False) as (address, _):
        assert failure(at(customer, token, proxy=address)) == ("tls", "vault_proxy")
    assert failure(at(customer, token, proxy=f"http://127.0.0.1:{free_port()}")) == ("tcp", "vault_proxy")
    assert failure(at(customer, token, proxy="http://nobody.invalid")) == ("dns", "vault_proxy")


def test_an_unknown_authority(customer: CustomersVault) -> None:
    assert failure(at(customer, "s.unknown", trust_store="")) == ("tls", "tls_ca")


def test_a_certificate_for_another_host() -> None:
    server = start_customers_vault("", names="DNS:vault.example.com")
    try:
        assert failure(at(server, "s.unknown", namespace="")) == ("tls", "tls_name")
    finally:
        server.stop()


def test_an_expired_certificate(tmp_path: Path) -> None:
    with expired_certificate(tmp_path) as (port, pem):
        steps = look(f"https://localhost:{port}", trust_store=str(pem))
    assert failure(steps) == ("tls", "tls_expired")


def test_https_to_a_port_that_speaks_http(plain: OpenBao) -> None:
    assert failure(look(plain.address.replace("http:", "https:"))) == ("tls", "tls_failed")


def test_http_to_a_port_that_speaks_https(customer: CustomersVault) -> None:
    steps = look(customer.address.replace("https:", "http:"))
    assert failure(steps) == ("vault", "not_a_vault")
    assert warnings(steps) == ["tls_none"]


def test_a_server_that_demands_a_client_certificate(tmp_path: Path) -> None:
    server = start_customers_vault("", mutual=True)
    try:
        server.make_key(KEY)
        token = server.make_token(KEY)
        assert failure(at(server, token, namespace="")) == ("tls", "tls_client_cert")
        assert verdict(at(server, token, namespace="", key_store=str(server.client))).code == "ok"
        with expired_certificate(tmp_path) as (_, other):
            assert failure(at(server, token, namespace="", key_store=str(other))) == ("tls", "tls_client_cert")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (Misbehaving.HTML, "not_a_vault"),
        (Misbehaving.HTML_FORBIDDEN, "not_a_vault"),
        (Misbehaving.NOT_JSON, "not_a_vault"),
        (Misbehaving.EMPTY_OBJECT, "not_a_vault"),
        (Misbehaving.REDIRECT, "vault_redirects"),
        (Misbehaving.HTML_ERROR, "vault_failing"),
        (Misbehaving.SERVER_ERROR, "vault_failing"),
        (Misbehaving.CUT_OFF, "vault_failing"),
        (Misbehaving.BUSY, "vault_busy"),
    ],
)
def test_what_is_no_vault_never_gets_the_token(how: Misbehaving, code: str) -> None:
    with misbehaving(how) as server:
        assert failure(look(server.address, "s.canary")) == ("vault", code)
        assert server.followed == 0
        assert not any("canary" in sent for sent in server.tokens)


def test_an_ipv6_address(plain: OpenBao) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert failure(look(f"http://[::1]:{port}")) == ("tcp", "vault_refused")


# -- the vault's state -------------------------------------------------------------------------------------------------


def test_a_vault_that_was_never_initialised() -> None:
    with configured_openbao('storage "inmem" {}', dev=False) as server:
        assert failure(look(server.address)) == ("initialised", "vault_not_initialised")


def test_a_sealed_vault() -> None:
    server = start_openbao()
    try:
        Vault(server.address, token=server.root_token).call("PUT", "sys/seal")
        deadline = time.monotonic() + 5
        while Vault(server.address).status_of("GET", "sys/health")[0] != 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert failure(look(server.address, server.root_token)) == ("sealed", "vault_sealed")
    finally:
        server.stop()


def test_a_vault_whose_audit_device_broke_is_healthy_and_fails() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        port = listening.getsockname()[1]
        device = f'address = "127.0.0.1:{port}"\n socket_type = "tcp"'
        with configured_openbao(f'audit "socket" "main" {{\n options {{\n {device}\n }}\n}}', dev=True) as server:
            vault, deadline = Vault(server.address, token="root"), time.monotonic() + 5
            while vault.status_of("GET", "sys/mounts")[0] != 200 and time.monotonic() < deadline:
                time.sleep(0.05)
            listening.accept()[0].close()
            listening.close()
            assert failure(look(server.address, "root")) == ("namespace", "vault_internal")


def test_a_vault_at_its_rate_limit(customer: CustomersVault) -> None:
    token = customer.make_token(KEY)
    customer.top.call("POST", "sys/quotas/rate-limit/test", {"rate": 0.01, "interval": "60s", "path": "admin/"})
    try:
        customer.root.status_of("GET", "sys/internal/ui/mounts")  # uses up what there is
        assert failure(at(customer, token)) == ("namespace", "vault_busy")
    finally:
        customer.top.call("DELETE", "sys/quotas/rate-limit/test")


def test_a_namespace_that_is_not_there(customer: CustomersVault) -> None:
    token = customer.make_token(KEY)
    assert failure(at(customer, token, namespace="Admin")) == ("namespace", "namespace_missing")


# -- the token ---------------------------------------------------------------------------------------------------------


def test_a_dead_or_mistyped_token(customer: CustomersVault) -> None:
    token = customer.make_token(KEY)
    customer.revoke(token)
    assert failure(at(customer, token)) == ("token", "token_invalid")
    assert failure(at(customer, "${AUTH_TOKEN}")) == ("token", "token_invalid")


def test_a_token_that_ended_by_its_last_use_is_known_by_its_looking_up(customer: CustomersVault) -> None:
    assert failure(at(customer, token_of(customer.root, num_uses=1))) == ("use_limit", "token_use_limited")


def test_a_token_of_another_namespace(customer: CustomersVault) -> None:
    customer.top.call("POST", "sys/namespaces/sales", {})
    foreign = token_of(customer.top.with_namespace("sales"))
    found = verdict(at(customer, foreign))
    assert (found.id, found.code, found.detail) == ("token", "token_foreign_namespace", "sales")
    above = verdict(at(customer, token_of(customer.top)))
    assert (above.id, above.code, above.detail) == ("datakey", "token_foreign_namespace", "root")
    below = verdict(at(customer, customer.make_token(KEY), namespace="/"))
    assert (below.id, below.code, below.detail) == ("token", "token_foreign_namespace", "admin")


def test_a_token_of_a_namespace_above_works_when_its_policy_says_so(customer: CustomersVault) -> None:
    paths = [path.replace('"transit', '"admin/transit').replace('"auth', '"admin/auth') for path in ALL]
    assert verdict(at(customer, token_of(customer.top, *paths))).code == "ok"


def test_a_token_that_may_not_look_itself_up_still_works(customer: CustomersVault) -> None:
    steps = at(customer, token_of(customer.root, DATAKEY, DECRYPT))
    assert warnings(steps) == ["token_lookup_denied"]
    assert verdict(steps).code == "ok"


NUMBERS = ("ttl", "creation_time", "creation_ttl", "period", "explicit_max_ttl", "num_uses")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, absurd) for name in NUMBERS for absurd in (10**15, -(10**15))),
        *(("namespace_path", text) for text in ("x" * 100_000, "sales\nok      Round trip", 7, ["sales"])),
    ],
)
def test_a_vault_that_says_of_a_token_what_cannot_be_true(plain: OpenBao, name: str, value: object) -> None:
    def lie(body: bytes) -> bytes:
        found = json.loads(body)
        found["data"][name] = value
        return json.dumps(found).encode()

    token = token_of(Vault(plain.address, token=plain.root_token))
    with lying(plain.address, "auth/token/lookup-self", lie) as address:
        assert failure(look(address, token, read_timeout=5.0)) == ("token", "not_a_vault")


@pytest.mark.parametrize("text", ["schl\u00fcssel", "", "no base64", None, 7, "AAAA"])
def test_what_is_no_data_key_is_none(text: object) -> None:
    """Of what is no ASCII nobody had thought: `check` and `sync` ended in it, and values stayed away."""
    assert not preflight._is_data_key(text)


@pytest.mark.parametrize(
    ("options", "step", "code"),
    [
        ({"type": "batch", "period": None}, "token_type", "token_batch"),
        ({"num_uses": 3}, "use_limit", "token_use_limited"),
    ],
)
def test_tokens_that_are_refused(customer: CustomersVault, options: dict[str, Any], step: str, code: str) -> None:
    assert failure(at(customer, token_of(customer.root, **options))) == (step, code)


def test_a_root_token_is_refused(customer: CustomersVault) -> None:
    assert failure(at(customer, customer.root_token, namespace="")) == ("token_type", "token_is_root")


@pytest.mark.parametrize(
    ("options", "codes", "days"),
    [
        ({"period": None}, ["token_not_periodic"], 32),
        ({"period": None, "renewable": False, "ttl": "48h"}, ["token_not_renewable", "token_not_periodic"], 2),
        ({"explicit_max_ttl": "72h"}, ["token_hard_expiry"], 3),
        ({"period": None, "no_parent": False}, ["token_not_periodic", "token_dies_with_parent"], 32),
    ],
)
def test_tokens_that_work_for_a_while(
    customer: CustomersVault, options: dict[str, Any], codes: list[str], days: int
) -> None:
    steps = at(customer, token_of(customer.root, **options))
    assert warnings(steps) == codes
    assert verdict(steps).code == "ok"
    told = next(step.detail for step in steps if step.code == codes[0])
    expected = {time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86400 + late)) for late in (-60, 0)}
    assert told[:10] in expected


# -- the key -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere(customer: CustomersVault) -> Vault:
    """A namespace without a transit engine."""
    customer.top.call("POST", "sys/namespaces/empty", {})
    return customer.top.with_namespace("empty")


def test_no_engine_and_another_engine_at_transit(customer: CustomersVault, elsewhere: Vault) -> None:
    token = token_of(elsewhere)
    assert failure(at(customer, token, namespace="empty")) == ("engine", "engine_missing")
    elsewhere.call("POST", "sys/mounts/transit", {"type": "kv"})
    found = verdict(at(customer, token, namespace="empty"))
    assert (found.id, found.code, found.detail) == ("engine", "engine_other", "kv")


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize(
    ("name", "made", "code"),
    [
        ("absent", None, "key_missing"),
        ("derived", {"derived": True}, "key_unfit"),
        ("signing", {"type": "ecdsa-p256"}, "key_unfit"),
        ("deleted", {}, "key_deleted"),
    ],
)
def test_keys_that_make_no_data_keys(
    customer: CustomersVault, name: str, made: dict[str, Any] | None, code: str, wrapped: bool
) -> None:
    if made is not None:
        customer.root.call("POST", f"transit/keys/{name}", made)
    if name == "deleted":
        customer.root.call("DELETE", f"transit/keys/{name}/soft-delete")
    token = token_of(customer.root, LOOKUP, f'path "transit/datakey/+/{name}" {{ capabilities = ["update"] }}')
    assert failure(at(customer, token, key=name, wrapped=wrapped)) == ("key", code)


@pytest.mark.parametrize(("wrapped", "kind"), [(True, "wrapped"), (False, "plaintext")])
def test_a_policy_without_the_data_key(customer: CustomersVault, wrapped: bool, kind: str) -> None:
    found = verdict(at(customer, token_of(customer.root, LOOKUP, DECRYPT), wrapped=wrapped))
    assert (found.id, found.code, found.detail) == ("datakey", "policy_denies", f"transit/datakey/{kind}/{KEY}")
    seed = customer.make_token(KEY, wrapped=False)
    assert failure(at(customer, seed, key="other")) == ("datakey", "policy_denies")


def test_the_seeds_policy_cannot_unwrap(customer: CustomersVault) -> None:
    found = verdict(at(customer, customer.make_token(KEY, wrapped=False), wrapped=True))
    assert (found.id, found.code, found.detail) == ("decrypt", "wrapped_needs_decrypt", f"transit/decrypt/{KEY}")


def test_two_vaults_behind_one_address(plain: OpenBao) -> None:
    other = start_openbao()
    try:
        token = f"both-{secrets.token_hex(12)}"  # a chosen id may not begin with "s."
        roots = [Vault(server.address, token=server.root_token) for server in (plain, other)]
        roots[1].call("POST", "sys/mounts/transit", {"type": "transit"})
        roots[1].call("POST", f"transit/keys/{KEY}", {})
        for root in roots:
            token_of(root, id=token)
        with in_turn(plain.address, other.address, b"/decrypt/") as address:
            assert failure(look(address, token)) == ("round_trip", "round_trip_failed")
    finally:
        other.stop()


# -- the catalogue is complete -----------------------------------------------------------------------------------------


def test_what_the_caller_finds_skips_every_question() -> None:
    steps = refused("env_missing", "AUTH_TOKEN")
    assert verdict(steps) == steps[0] == Step("address", "failed", "env_missing", "AUTH_TOKEN")
    assert {step.state for step in steps[1:]} == {"skipped"}
    later = refused("token_invalid")
    assert (verdict(later).id, [step.id for step in later]) == ("token", list(STEPS))


@pytest.mark.parametrize(
    ("settings", "code", "detail"),
    [
        ({"uri": "ftp://127.0.0.1"}, "uri_refused", "uri_scheme"),
        ({"token": ""}, "token_invalid", ""),
        ({"token": "s.one\ntwo"}, "token_invalid", ""),
        ({"namespace": "größe"}, "namespace_missing", ""),
        ({"trust_store": "/nowhere/ca.pem"}, "file_refused", "trust-store"),
        ({"key_store": "/nowhere/client.pem"}, "file_refused", "key-store"),
    ],
)
def test_settings_that_cannot_be_used_reach_nobody(settings: dict[str, str], code: str, detail: str) -> None:
    with pytest.raises(ConnectionSettingsInvalid) as caught:
        CustomerTransport(CustomerVault(**({"uri": "https://127.0.0.1", "token": "s.one"} | settings)))
    assert (caught.value.code, caught.value.detail) == (code, detail)
    assert caught.value.__context__ is None


def test_every_verdict_was_met_in_a_real_situation() -> None:
    assert set(CODES) - OF_THE_CALLER - SEEN == set()
    assert SEEN - set(CODES) == {"ok", "skipped"}
