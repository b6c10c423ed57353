"""At-rest data keys from the hosted vault, under the Atom's own key there."""

from __future__ import annotations

from kmscore.vaultclient.answers import DataKeysBroken
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import ATREST
from kmsruntime.disk.credentials import VaultLogin
from kmsruntime.errors import StoreDamaged
from kmsruntime.remote.hosted_vault import log_in, vault_errors
from kmsruntime.store.keys import AtRestKey


class HostedKeys:
    """A KeySource. Logs in for each call: a token lives five minutes and keys are needed rarely."""

    def __init__(self, vault: Vault, login: VaultLogin) -> None:
        self._vault, self._login = vault, login

    def new_data_key(self) -> AtRestKey:
        with vault_errors():
            key = log_in(self._vault, self._login).new_data_key(ATREST, self._login.recipient)
        return AtRestKey(key.plaintext, key.wrapped, "hosted", self._login.recipient, key.key_version)

    def unwrap(self, wrapped: str) -> bytes:
        with vault_errors():
            reader = log_in(self._vault, self._login)
            try:
                return reader.unwrap_data_keys(ATREST, self._login.recipient, [wrapped])[0]
            except DataKeysBroken:
                pass
        raise StoreDamaged("key_foreign", "The vault has no key any more that opens the store's: run kms-runtime sync.")
