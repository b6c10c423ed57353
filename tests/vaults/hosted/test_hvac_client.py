"""hvac over the bounded client, at a real vault: what hvac does through it, what it does not, and whose errors come."""

from __future__ import annotations

from collections.abc import Iterator

import hvac
import pytest

from kmscore.vaultclient.answers import DataKeysBroken, VaultMisconfigured, VaultRefused, VaultUnavailable
from kmscore.vaultclient.client import Vault
from tests.kmscore.byov.situations import dripping
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.servers import OpenBao, start_openbao
from vaults.hosted.hvac_client import (
    add_to_document,
    client_of,
    patch_document,
    read_document,
    rewrap_data_keys,
    wrapping_of,
)


@pytest.fixture(scope="module")
def server() -> Iterator[OpenBao]:
    found = start_openbao()
    root = client_of(Vault(found.address, token=found.root_token))
    root.sys.enable_secrets_engine("transit")
    root.secrets.transit.create_key("orders", key_type="aes256-gcm96")
    root.sys.enable_secrets_engine("kv", path="documents", options={"version": "2"})
    root.sys.enable_auth_method("approle")
    root.auth.approle.create_or_update_approle("web", token_policies="default")
    yield found
    found.stop()


@pytest.fixture
def vault(server: OpenBao) -> Vault:
    return Vault(server.address, token=server.root_token)


@pytest.fixture
def client(vault: Vault) -> hvac.Client:
    return client_of(vault)


def test_documents_are_created_merged_and_taken_from(client: hvac.Client) -> None:
    assert patch_document(client, "documents", "one/0", {"a": "1"}) is False
    add_to_document(client, "documents", "one/0", {"a": "1"})
    add_to_document(client, "documents", "one/0", {"b": "2"})
    assert read_document(client, "documents", "one/0") == {"a": "1", "b": "2"}
    assert patch_document(client, "documents", "one/0", {"a": None}) is True
    assert read_document(client, "documents", "one/0") == {"b": "2"}
    with pytest.raises(VaultRefused) as caught:
        read_document(client, "documents", "none/0")
    assert caught.value.status == 404


def test_rewrap_keeps_the_keys_and_names_the_broken_by_position(client: hvac.Client, vault: Vault) -> None:
    key = vault.new_data_key("transit", "orders")
    (again,) = rewrap_data_keys(client, "transit", "orders", [key.wrapped])
    assert vault.unwrap_data_keys("transit", "orders", [again]) == [key.plaintext]
    with pytest.raises(DataKeysBroken) as caught:
        rewrap_data_keys(client, "transit", "orders", [key.wrapped, "vault:v1:AAAA"])
    assert caught.value.positions == (1,)


def test_a_login_is_kept_by_the_client_and_told_to_nobody(client: hvac.Client) -> None:
    role_id = client.auth.approle.read_role_id("web")["data"]["role_id"]
    secret_id = client.auth.approle.generate_secret_id("web")["data"]["secret_id"]
    answer = client.auth.approle.login(role_id, secret_id)
    assert client.auth.token.lookup_self()["data"]["display_name"] == "approle"
    with pytest.raises(AttributeError):
        _ = client.token
    assert answer["auth"]["client_token"] not in repr(vars(client)) + repr(vars(client.adapter))


def test_a_wrapped_answer_is_read_as_its_wrapping(client: hvac.Client, vault: Vault) -> None:
    wrapping = wrapping_of(client.auth.approle.generate_secret_id("web", {"node": "n"}, wrap_ttl="60s"))
    assert (wrapping.creation_path, wrapping.seconds) == ("auth/approle/role/web/secret-id", 60)
    assert vault.unwrap_response(wrapping.token)["secret_id_accessor"] == wrapping.accessor
    with pytest.raises(VaultMisconfigured):
        wrapping_of(client.sys.list_auth_methods())


def test_refusals_are_ours_with_a_status_and_nothing_of_the_answer(client: hvac.Client) -> None:
    with pytest.raises(VaultRefused) as caught:
        client.secrets.transit.read_key("missing")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert caught.value.__context__ is None


def test_the_client_takes_nothing_from_the_environment(server: OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_TOKEN", "VAULT_ADDR", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, server.root_token if name == "VAULT_TOKEN" else "http://127.0.0.1:1")
    with pytest.raises(VaultRefused):
        client_of(Vault(server.address)).sys.list_mounted_secrets_engines()


def test_redirects_sizes_and_deadlines_hold_for_hvac_too() -> None:
    with misbehaving(Misbehaving.REDIRECT) as running:
        with pytest.raises(VaultMisconfigured) as redirected:
            client_of(Vault(running.address, token="s.canary")).sys.list_auth_methods()
        assert (redirected.value.code, running.followed) == ("vault_redirects", 0)
    with misbehaving(Misbehaving.HUGE) as running, pytest.raises(VaultMisconfigured) as huge:
        client_of(Vault(running.address, token="s.canary")).sys.list_auth_methods()
    assert huge.value.code == "answer_invalid"
    with dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n") as address, pytest.raises(VaultUnavailable) as late:
        client_of(Vault(address, token="s.canary", within=0.4)).sys.list_auth_methods()
    assert late.value.code == "vault_timeout"
