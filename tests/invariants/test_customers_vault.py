"""I4: what the portal and its database hold is worth nothing at the customer's vault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kmscore.byov.customer import key_name
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from tests.conftest import HostedVault, Stage
from tests.customer import CustomersVault, start_customers_vault
from vaults.hosted.credentials import read_credentials
from vaults.hosted.identities import IDENTITIES

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def customers_vault() -> Iterator[CustomersVault]:
    server = start_customers_vault()
    yield server
    server.stop()


def attempts(vault: CustomersVault, token: str, key: str, wrapped: str) -> list[str]:
    """Which calls a token may make at the customer's vault, in its namespace and at the root."""
    calls = [
        ("GET", "auth/token/lookup-self", None),
        ("POST", "auth/token/renew-self", {}),
        ("POST", f"transit/datakey/plaintext/{key}", {}),
        ("POST", f"transit/datakey/wrapped/{key}", {}),
        ("POST", f"transit/decrypt/{key}", {"ciphertext": wrapped}),
        ("GET", f"transit/keys/{key}", None),
        ("GET", "sys/internal/ui/mounts", None),
    ]
    allowed = []
    for namespace in ("", vault.namespace):
        client = Vault(vault.address, token=token, ca=str(vault.ca), namespace=namespace)
        for method, path, body in calls:
            try:
                client.call(method, path, body)
            except VaultRefused:
                continue
            allowed.append(f"{method} {path} in {namespace or 'the root'}")
    return allowed


def test_every_portal_credential_is_refused_at_the_customers_vault(
    stage: Stage, hosted_vault: HostedVault, customers_vault: CustomersVault
) -> None:
    key = key_name(stage.account.code, str(stage.atom.pk))
    customers_vault.make_key(key)
    own = Vault(
        customers_vault.address,
        token=customers_vault.make_token(key),
        ca=str(customers_vault.ca),
        namespace=customers_vault.namespace,
    )
    wrapped = own.new_data_key("transit", key).wrapped
    identities = read_credentials(hosted_vault.credentials / "all").identities
    assert set(identities) == set(IDENTITIES)
    hosted = Vault(hosted_vault.address)
    for name, identity in identities.items():
        token = hosted.login("platform", identity.role_id, identity.secret_id).token
        assert attempts(customers_vault, token, key, wrapped) == [], name
        for mount in ("platform", "approle", "atoms", "environments"):
            with pytest.raises(VaultRefused):
                Vault(customers_vault.address, ca=str(customers_vault.ca)).login(
                    mount, identity.role_id, identity.secret_id
                )
    assert attempts(customers_vault, hosted_vault.server.root_token, key, wrapped) == []
    assert len(attempts(customers_vault, customers_vault.root_token, key, wrapped)) > 5, "the calls themselves work"
