"""The vault's client towards a customer's vault: TLS both ways, a path, a proxy, and the token's own affairs."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from kmscore.vaultclient.answers import VaultMisconfigured, VaultRefused, VaultUnavailable
from kmscore.vaultclient.client import Vault
from tests.customer import CustomersVault, make_client, start_customers_vault
from tests.kmscore.byov.situations import proxy
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.servers import free_port

KEY = "acme_1"


@pytest.fixture(scope="module")
def customer() -> Iterator[CustomersVault]:
    """Lets in only clients with a certificate."""
    server = start_customers_vault(mutual=True)
    server.make_key(KEY)
    try:
        yield server
    finally:
        server.stop()


def client_of(customer: CustomersVault, token: str = "", **more: str) -> Vault:
    settings = {"cert": str(customer.client), "ca": str(customer.ca)} | more
    return Vault(customer.address, token=token or customer.make_token(KEY), namespace="/admin/", **settings)  # type: ignore[arg-type]


# -- TLS ---------------------------------------------------------------------------------------------------------------


def test_a_key_under_a_password_is_opened_by_it_and_the_password_is_kept_nowhere(customer: CustomersVault) -> None:
    password = "canary-password-7d1f"
    encrypted = make_client(customer.directory, password)
    vault = client_of(customer, cert=str(encrypted), cert_password=password)
    assert vault.new_wrapped_data_key("transit", KEY)[1] == 1
    assert password not in repr(vars(vault)) + repr(vars(vault._http)) + repr(vars(vault._http._pools))


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_key_that_does_not_open_is_told_without_asking_a_terminal(customer: CustomersVault, password: str) -> None:
    encrypted = make_client(customer.directory, "right")
    with pytest.raises(VaultMisconfigured) as caught:
        client_of(customer, "s.canary", cert=str(encrypted), cert_password=password)
    assert caught.value.code == "cert_invalid"
    assert caught.value.__context__ is None


def test_files_that_cannot_be_used_are_told_when_the_client_is_made(customer: CustomersVault, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("missing.pem", "empty.pem"):
        for setting, code in (("ca", "ca_invalid"), ("cert", "cert_invalid")):
            with pytest.raises(VaultMisconfigured) as caught:
                client_of(customer, "s.canary", **{setting: str(tmp_path / name)})
            assert caught.value.code == code


def test_why_tls_fails_is_told_apart(customer: CustomersVault) -> None:
    situations = [
        (client_of(customer, "s.canary", cert=""), "tls_client_cert"),
        (client_of(customer, "s.canary", ca=""), "tls_ca"),
    ]
    for vault, code in situations:
        with pytest.raises(VaultMisconfigured) as caught:
            vault.lookup_self()
        assert caught.value.code == code
        assert caught.value.__context__ is None


# -- address, proxy, environment ---------------------------------------------------------------------------------------


def test_a_path_replaces_the_prefix(customer: CustomersVault) -> None:
    """A web server that hands out the vault below /secrets/vault, as companies do."""
    asked = []
    address, client, ca = customer.address, str(customer.client), str(customer.ca)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            headers = {name: self.headers[name] for name in ("X-Vault-Token", "X-Vault-Namespace")}
            path = self.path.removeprefix("/secrets/vault")
            answer = requests.get(f"{address}/v1{path}", headers=headers, cert=client, verify=ca, timeout=5)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        token = customer.make_token(KEY)
        vault = Vault(
            f"http://127.0.0.1:{server.server_port}", token=token, namespace="admin", prefix="/secrets/vault/"
        )
        assert vault.lookup_self()["period"] == 86400
        assert asked == ["/secrets/vault/auth/token/lookup-self"]
    finally:
        server.shutdown()
        server.server_close()


def test_a_proxy_is_used_when_told_and_sees_no_token(customer: CustomersVault) -> None:
    with proxy() as (address, asked):
        assert client_of(customer, proxy=address).lookup_self()["type"] == "service"
        assert asked == [customer.address.removeprefix("https://")]
    with proxy(allows=False) as (address, _):
        with pytest.raises(VaultUnavailable) as caught:
            client_of(customer, proxy=address).lookup_self()
        assert caught.value.code == "vault_proxy"


def test_proxies_and_authorities_of_the_environment_are_ignored(
    customer: CustomersVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy() as (address, asked):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, address)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "VAULT_CACERT"):
            monkeypatch.setenv(name, str(customer.ca))
        assert client_of(customer).lookup_self()["type"] == "service"
        with pytest.raises(VaultMisconfigured) as caught:
            client_of(customer, ca="").lookup_self()
        assert caught.value.code == "tls_ca"
        assert asked == []


def test_a_redirect_is_not_followed(customer: CustomersVault) -> None:
    with misbehaving(Misbehaving.REDIRECT) as server:
        with pytest.raises(VaultMisconfigured) as caught:
            Vault(server.address, token="s.canary").status_of("GET", "sys/health")
        assert (caught.value.code, server.followed) == ("vault_redirects", 0)


def test_an_endless_answer_is_not_taken_into_memory() -> None:
    with misbehaving(Misbehaving.HUGE) as server:
        with pytest.raises(VaultMisconfigured) as caught:
            Vault(server.address, token="s.canary").lookup_self()
        assert caught.value.code == "answer_invalid"
        assert caught.value.__context__ is None


# -- what a container asks ---------------------------------------------------------------------------------------------


def test_a_wrapped_data_key_is_32_bytes_when_it_is_opened(customer: CustomersVault) -> None:
    vault = client_of(customer)
    wrapped, version = vault.new_wrapped_data_key("transit", KEY)
    assert wrapped.startswith("vault:v1:")
    assert version == 1
    opened = vault.unwrap_data_key("transit", KEY, wrapped)
    assert len(opened) == 32
    assert vault.unwrap_data_key("transit", KEY, wrapped) == opened
    with pytest.raises(VaultRefused) as caught:
        vault.unwrap_data_key("transit", KEY, "vault:v1:AAAA")
    assert caught.value.status == 400


def test_looking_up_and_renewing_give_everything_but_the_token(customer: CustomersVault) -> None:
    token = customer.make_token(KEY)
    vault = client_of(customer, token)
    looked, renewed = vault.lookup_self(), vault.renew_self()
    assert (looked["period"], renewed["lease_duration"], renewed["renewable"]) == (86400, 86400, True)
    assert token not in repr(looked) + repr(renewed)


def test_renewing_asks_for_no_increment(customer: CustomersVault) -> None:
    """One would cut a long token down to it."""
    vault = client_of(customer, customer.make_token(KEY, period="", ttl="700h"))
    assert vault.renew_self()["lease_duration"] == 700 * 3600


def test_a_status_is_an_answer_and_not_an_error(customer: CustomersVault) -> None:
    vault = client_of(customer)
    assert vault.status_of("GET", "sys/mounts")[0] == 403
    assert vault.status_of("GET", "nowhere")[0] in (403, 404)
    status, health = vault.with_token("").with_namespace("").status_of("GET", "sys/health")
    assert (status, (health or {})["sealed"]) == (200, False)
    assert vault.status_of("GET", "sys/health")[0] == 400  # in a namespace
    with pytest.raises(VaultUnavailable):
        Vault(f"http://127.0.0.1:{free_port()}").status_of("GET", "sys/health")
    with misbehaving(Misbehaving.HTML) as server, pytest.raises(VaultMisconfigured) as caught:
        Vault(server.address).status_of("GET", "sys/health")
    assert caught.value.code == "not_a_vault"
