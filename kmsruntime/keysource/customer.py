"""At-rest data keys from the customer's own vault (Bring Your Own Vault), under the container's transit key there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kmscore.vaultclient.answers import VaultError, VaultRefused, VaultUnavailable
from kmscore.vaultclient.client import Vault
from kmsruntime.errors import CustomerVaultMisconfigured, CustomerVaultRefused, CustomerVaultUnavailable, RuntimeProblem
from kmsruntime.store.keys import AtRestKey

TRANSIT: Final = "transit"
_NEXT: Final = "kms-runtime check shows which step fails and what mends it."


class CustomerKeys:
    """A KeySource. wrapped: the vault gives the data key wrapped only, so that opening it is an act of its own there."""

    def __init__(self, vault: Vault, key: str, *, wrapped: bool) -> None:
        self._vault, self._key, self._wrapped = vault, key, wrapped

    def new_data_key(self) -> AtRestKey:
        """Raises CustomerVaultUnavailable, CustomerVaultRefused, CustomerVaultMisconfigured."""
        with customer_errors():
            if self._wrapped:
                text, version = self._vault.new_wrapped_data_key(TRANSIT, self._key)
                plaintext = self._vault.unwrap_data_key(TRANSIT, self._key, text)
                return AtRestKey(plaintext, text, "byov", self._key, version, memory_only=True)
            key = self._vault.new_data_key(TRANSIT, self._key)
        return AtRestKey(key.plaintext, key.wrapped, "byov", self._key, key.key_version)

    def unwrap(self, wrapped: str) -> bytes:
        """Raises CustomerVaultUnavailable, CustomerVaultRefused, CustomerVaultMisconfigured."""
        with customer_errors():
            return self._vault.unwrap_data_key(TRANSIT, self._key, wrapped)


@contextmanager
def customer_errors() -> Iterator[None]:
    """Turn kmscore.vaultclient.answers' errors into this program's, about "your vault": what is wrong, and what to do."""
    problem: RuntimeProblem | None = None
    try:
        yield
    except VaultError as error:
        problem = customer_problem(error)
    if problem is not None:
        raise problem


def customer_problem(error: VaultError) -> RuntimeProblem:
    """The same error for people, about the customer's vault."""
    sentence = error.sentence.replace("The vault", "Your vault", 1).replace("the vault", "your vault")
    if isinstance(error, VaultUnavailable):
        return CustomerVaultUnavailable(error.code, f"{sentence} It is asked again later. {_NEXT}")
    if isinstance(error, VaultRefused):
        return CustomerVaultRefused(error.code, f"{sentence} {_NEXT}")
    return CustomerVaultMisconfigured(error.code, f"{sentence} {_NEXT}")
