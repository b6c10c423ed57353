"""The vault's client against a real vault: what works, and each way in which a vault does not answer as it should."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator

import pytest

from kmscore.vaultclient.answers import DataKeysBroken, VaultError, VaultMisconfigured, VaultRefused, VaultUnavailable
from kmscore.vaultclient.client import Vault, chunks
from tests.kmscore.byov.situations import dripping, lying
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.servers import OpenBao, free_port, start_openbao


@pytest.fixture(scope="module")
def server() -> Iterator[OpenBao]:
    """Its own: this module seals it and stops it."""
    found = start_openbao()
    root = Vault(found.address, token=found.root_token)
    root.call("POST", "sys/mounts/transit", {"type": "transit"})
    root.call("POST", "transit/keys/orders", {"type": "aes256-gcm96"})
    root.call("POST", "sys/mounts/documents", {"type": "kv", "options": {"version": "2"}})
    yield found
    found.stop()


@pytest.fixture
def vault(server: OpenBao) -> Vault:
    return Vault(server.address, token=server.root_token)


def test_a_data_key_comes_back_from_its_wrapped_form(vault: Vault) -> None:
    made = [vault.new_data_key("transit", "orders") for _ in range(3)]
    assert vault.unwrap_data_keys("transit", "orders", [key.wrapped for key in made]) == [key.plaintext for key in made]
    assert {(len(key.plaintext), key.key_version) for key in made} == {(32, 1)}
    assert all(base64.b64encode(key.plaintext).decode() not in repr(key) for key in made)


def test_a_broken_key_in_a_batch_is_told_by_position_and_shows_nothing(vault: Vault) -> None:
    good = vault.new_data_key("transit", "orders")
    with pytest.raises(DataKeysBroken) as caught:
        vault.unwrap_data_keys("transit", "orders", [good.wrapped, "vault:v1:AAAA", good.wrapped])
    assert caught.value.positions == (1,)
    with pytest.raises(DataKeysBroken) as caught:
        vault.unwrap_data_keys("transit", "orders", ["vault:v1:AAAA"])
    assert caught.value.positions == (0,)
    assert base64.b64encode(good.plaintext).decode() not in f"{caught.value!r} {caught.value.__context__!r}"


def test_a_batch_of_400_fits_a_default_listener_and_more_is_refused_here(vault: Vault) -> None:
    wrapped = vault.new_data_key("transit", "orders").wrapped
    assert len(vault.unwrap_data_keys("transit", "orders", [wrapped] * 400)) == 400
    with pytest.raises(ValueError, match="400"):
        vault.unwrap_data_keys("transit", "orders", [wrapped] * 401)
    assert [len(chunk) for chunk in chunks(range(801))] == [400, 400, 1]
    assert vault.unwrap_data_keys("transit", "orders", []) == []


def test_a_wrapping_token_tells_its_origin_and_opens_once(vault: Vault) -> None:
    path = "transit/datakey/plaintext/orders"
    _, answer = vault.exchange("POST", path, b'{"bits": "256"}', wrap_ttl="60s")
    token, nobody = answer["wrap_info"]["token"], vault.with_token("")
    origin = nobody.lookup_wrapping(token)
    assert (origin.creation_path, origin.seconds) == (path, 60)
    assert abs(origin.created - nobody.server_time()) <= 2
    assert "ciphertext" in nobody.unwrap_response(token)
    for use in (nobody.unwrap_response, nobody.lookup_wrapping):
        with pytest.raises(VaultRefused):
            use(token)


def test_a_document_is_read_and_one_that_is_none_is_refused(vault: Vault) -> None:
    vault.call("POST", "documents/data/one/0", {"data": {"a": "1"}})
    assert vault.read_document("documents", "one/0") == {"a": "1"}
    with pytest.raises(VaultRefused) as caught:
        vault.read_document("documents", "none/0")
    assert caught.value.status == 404


def test_refusals_keep_their_status_and_nothing_of_the_answer(vault: Vault) -> None:
    for path, status in (("transit/keys/missing", 404), ("nowhere/at/all", 404)):
        with pytest.raises(VaultRefused) as caught:
            vault.call("GET", path)
        assert caught.value.status == status
    with pytest.raises(VaultRefused) as caught:
        vault.with_token("wrong").new_data_key("transit", "orders")
    assert (caught.value.status, caught.value.code) == (403, "permission_denied")


def test_nothing_is_taken_from_the_environment(server: OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", server.root_token)
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(VaultRefused):
        Vault(server.address).call("GET", "sys/mounts")
    with pytest.raises(VaultMisconfigured):
        Vault("")


@pytest.mark.parametrize(
    ("how", "kind", "code"),
    [
        (Misbehaving.HTML, VaultMisconfigured, "not_a_vault"),
        (Misbehaving.HTML_ERROR, VaultMisconfigured, "not_a_vault"),
        (Misbehaving.REDIRECT, VaultMisconfigured, "vault_redirects"),
        (Misbehaving.NOT_JSON, VaultMisconfigured, "not_a_vault"),
        (Misbehaving.LIST, VaultMisconfigured, "not_a_vault"),
        (Misbehaving.SILENT, VaultUnavailable, "vault_timeout"),
        (Misbehaving.CUT_OFF, VaultUnavailable, "vault_unreachable"),
    ],
)
def test_what_is_no_vault_is_recognised(how: Misbehaving, kind: type[VaultError], code: str) -> None:
    with misbehaving(how) as server:
        vault = Vault(server.address, token="canary-token", timeout=(0.3, 0.3))
        with pytest.raises(kind) as caught:
            vault.call("GET", "sys/mounts")
        assert caught.value.code == code
        assert caught.value.__context__ is None  # a chained exception would keep the token
        assert server.followed == 0


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK_HEAD, b"X: y\r\n"),
        (OK_HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        (OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK_HEAD + b"\r\n", b" "),
    ],
    ids=["status line", "interim answers", "headers", "body", "chunks", "body without a length"],
)
def test_an_answer_that_comes_in_drops_has_a_deadline(head: bytes, drop: bytes) -> None:
    """Each drop comes long before the socket's own timeout."""
    with dripping(head, drop) as address:
        vault, began = Vault(address, token="s.canary", timeout=(2.0, 2.0), within=0.4), time.monotonic()
        with pytest.raises(VaultUnavailable) as caught:
            vault.lookup_self()
        assert 0.3 < time.monotonic() - began < 20
    assert caught.value.code == "vault_timeout"
    assert caught.value.__context__ is None


def test_a_body_that_stops_coming_is_late_too() -> None:
    with dripping(OK_HEAD + b"Content-Length: 9\r\n\r\n{", b" ", pause=3) as address:
        with pytest.raises(VaultUnavailable) as caught:
            Vault(address, token="s.canary", timeout=(0.3, 0.3)).lookup_self()
        assert caught.value.code == "vault_timeout"


def test_each_answer_on_a_connection_has_its_own_deadline(server: OpenBao) -> None:
    vault, ends = Vault(server.address, token=server.root_token, pool=1, within=0.5), time.monotonic() + 1
    while time.monotonic() < ends:
        assert vault.new_data_key("transit", "orders").key_version == 1
        time.sleep(0.05)
    (pool,) = vault._http._pools.pools._container.values()
    assert pool.num_connections == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("key_version", -1), ("key_version", 2**31), ("ciphertext", "vault:x:"), ("ciphertext", 7), ("plaintext", "AAAA")],
)
def test_a_data_key_that_is_none_is_refused(server: OpenBao, name: str, value: object) -> None:
    def lie(body: bytes) -> bytes:
        found = json.loads(body)
        found["data"] = {one: told for one, told in found["data"].items() if one != "key_version"} | {name: value}
        return json.dumps(found).encode()

    with lying(server.address, "/datakey/", lie) as address, pytest.raises(VaultMisconfigured) as caught:
        Vault(address, token=server.root_token).new_data_key("transit", "orders")
    assert caught.value.code == "answer_invalid"


WRAPPED = {"creation_path": "p", "creation_time": "2026-11-27T07:00:00.123456789Z", "creation_ttl": 60}
AUTH = {"client_token": "s.token", "lease_duration": 60}


def told(answer: object) -> Callable[[bytes], bytes]:
    return lambda truth: json.dumps(answer).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("client_token", value) for value in (None, 7, True, "", "schl\u00fcssel", "two\nlines")),
        *(("lease_duration", value) for value in (None, "60", True, -1, 60.0, 2**53)),
    ],
)
def test_a_login_that_is_none_is_refused(server: OpenBao, name: str, value: object) -> None:
    """An empty token, or one that no header takes, was sent: the vault said no, and a person was told to enrol again."""
    with lying(server.address, "auth/atoms/login", told({"auth": AUTH})) as address:
        assert Vault(address).login("atoms", "role", "secret").seconds == 60
    with lying(server.address, "auth/atoms/login", told({"auth": AUTH | {name: value}})) as address:
        with pytest.raises(VaultMisconfigured) as caught:
            Vault(address).login("atoms", "role", "secret")
        assert caught.value.code == "answer_invalid"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("creation_path", value) for value in (None, 7, "")),
        *(("creation_ttl", value) for value in (None, "60", True, -1, 2**53)),
        ("creation_time", "2026-11-27T07:00:00"),  # of this machine's time zone, it would be
        ("creation_time", "1969-12-31T23:59:59Z"),
        ("creation_time", "x" * 1_000_000),
        ("creation_time", "0001-01-01T00:00:00+14:00"),
        *(("creation_time", value) for value in (None, 7, ["2026-11-27T07:00:00Z"])),
    ],
)
def test_an_origin_that_is_none_is_refused(server: OpenBao, name: str, value: object) -> None:
    with lying(server.address, "sys/wrapping/lookup", told({"data": WRAPPED})) as address:
        assert Vault(address).lookup_wrapping("token").created == 1795762800
    with lying(server.address, "sys/wrapping/lookup", told({"data": WRAPPED | {name: value}})) as address:
        with pytest.raises(VaultMisconfigured) as caught:
            Vault(address).lookup_wrapping("token")
        assert caught.value.code == "answer_invalid"


@pytest.mark.parametrize("value", ["1795762800", True, -1, 1e9, None, 2**53])
def test_a_clock_that_is_none_is_refused(server: OpenBao, value: object) -> None:
    with (
        lying(server.address, "sys/health", told({"server_time_utc": value})) as address,
        pytest.raises(VaultMisconfigured),
    ):
        Vault(address).server_time()


def test_what_opens_and_is_no_data_key_is_told_by_position(vault: Vault, server: OpenBao) -> None:
    """It passed for a key, and what it should have opened for changed or moved."""
    good = vault.new_data_key("transit", "orders").wrapped
    short = vault.call("POST", "transit/encrypt/orders", {"plaintext": base64.b64encode(b"short").decode()})
    with pytest.raises(DataKeysBroken) as caught:
        vault.unwrap_data_keys("transit", "orders", [good, short["data"]["ciphertext"]])
    assert caught.value.positions == (1,)
    for odd in (7, True, ["AAAA"], "schl\u00fcssel"):
        answer = {"data": {"batch_results": [{"plaintext": odd}]}}
        with lying(server.address, "transit/decrypt/", told(answer)) as address:
            with pytest.raises(VaultMisconfigured) as refused:
                Vault(address).unwrap_data_keys("transit", "orders", [good])
            assert refused.value.code == "answer_invalid"


def test_an_entry_of_a_document_that_is_no_text_is_none(vault: Vault) -> None:
    """It was sent to be unwrapped, and the vault refused the whole batch."""
    vault.call("POST", "documents/data/odd/0", {"data": {"a": "1", "b": 7, "c": ["x"], "d": None, "e": {"f": "g"}}})
    assert vault.read_document("documents", "odd/0") == {"a": "1"}


def test_nobody_there() -> None:
    with pytest.raises(VaultUnavailable) as caught:
        Vault(f"http://127.0.0.1:{free_port()}").call("GET", "sys/mounts")
    assert caught.value.code == "vault_unreachable"


def test_a_sealed_vault_is_unavailable(vault: Vault) -> None:
    server = start_openbao()
    try:
        other = Vault(server.address, token=server.root_token)
        other.call("PUT", "sys/seal")
        deadline = time.monotonic() + 5
        code = ""
        while code != "vault_sealed" and time.monotonic() < deadline:
            with pytest.raises(VaultUnavailable) as caught:
                other.call("GET", "sys/mounts")
            code = caught.value.code
        assert code == "vault_sealed"
    finally:
        server.stop()
