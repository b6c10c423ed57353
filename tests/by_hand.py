"""What tests and benches do at the hosted vault by hand, with any token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import RecipientMounts
from vaults.hosted import hvac_client
from vaults.hosted.hvac_client import Wrapping, client_of, wrapping_of


def wrapped(vault: Vault, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: int) -> Wrapping:
    """Ask for an answer that only a single-use token can fetch, within `seconds`."""
    return wrapping_of(
        client_of(vault).adapter.request(method, f"/v1/{path}", json=body and dict(body), wrap_ttl=f"{seconds}s")
    )


def add_to_document(vault: Vault, mounts: RecipientMounts, path: str, entries: Mapping[str, str | None]) -> None:
    """Merge entries into a document of wrapped data keys, which may be new; None takes one out."""
    hvac_client.add_to_document(client_of(vault), mounts.documents, path, entries)
