"""What a properties file gets of this container; test_hostile_files.py has it against real processes."""

from __future__ import annotations

import pytest

from kmscore.byov.customer import CustomerVault
from kmsruntime.keysource.placeholders import LocalEnvironment, Unresolved, resolve

VAULT = CustomerVault("https://vault.example:8200", "${AUTH_TOKEN}")


@pytest.mark.parametrize("address", ["", "x", "vault.example:8200", "https://", "https://vault.example:port", "\0"])
def test_what_is_no_address_allows_none_and_hinders_none(address: str) -> None:
    """One in config.json ended every look at the vault in what nobody had foreseen."""
    with pytest.raises(Unresolved) as caught:
        resolve(VAULT, LocalEnvironment({"AUTH_TOKEN": "token"}, [address]))
    assert caught.value.code == "confirm_vault"
    resolved = resolve(VAULT, LocalEnvironment({"AUTH_TOKEN": "token"}, [address, VAULT.uri]))
    assert resolved.vault.token == "token"


@pytest.mark.parametrize(
    ("uri", "goes_through"), [("https://vault.example:8200", True), ("http://127.0.0.1:8200", False)]
)
def test_what_is_this_machines_goes_through_no_proxy(uri: str, goes_through: bool) -> None:
    """Plain http "to this machine" went to the proxy's, with the token and the data keys for everybody on the way."""
    container = LocalEnvironment({"VAULT_PROXY_ADDR": "http://proxy.example:3128"}, [uri])
    assert bool(resolve(CustomerVault(uri, "token"), container).proxy) is goes_through
