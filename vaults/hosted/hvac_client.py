"""hvac over the one bounded client, and the calls that hvac has not.

hvac knows the vault's paths and bodies; how long, how much and from whom is kmscore's (vaultclient/http.py), as are the errors:
hvac's own hold the vault's text, in which plaintexts can stand, and are never raised here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, Final
from urllib.parse import urlencode

import hvac
import hvac.adapters
import orjson

from kmscore.vaultclient.answers import (
    DataKeysBroken,
    VaultRefused,
    member_of,
    refusal,
)
from kmscore.vaultclient.client import BATCH_ITEMS, JSON, Vault

FILE: Final = "application/octet-stream"
MERGE: Final = "application/merge-patch+json"


class BoundedAdapter(hvac.adapters.Adapter):
    """What hvac's API asks goes through a `Vault`: answers are its decoded objects, errors are its errors."""

    def __init__(self, vault: Vault, **_: object) -> None:
        """Of hvac's own settings none is used, nor its session: they are the vault's."""
        self._vault = vault

    def _take_token(self, token: str) -> None:
        self._vault = self._vault.with_token(token)

    token = property(fset=_take_token)  # hvac sets it after a login; nobody reads it

    def get_login_token(self, response: Mapping[str, Any]) -> str:
        return str(member_of(response, "auth").get("client_token"))

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        raise_exception: bool = True,
        *,
        json: object = None,
        data: bytes | IO[bytes] | None = None,
        params: Mapping[str, object] | None = None,
        wrap_ttl: str | None = None,
    ) -> dict[str, Any]:
        """One request. Raises VaultUnavailable, VaultRefused, VaultMisconfigured; raise_exception is not heard."""
        path = url.removeprefix("/v1/") + (f"?{urlencode(params)}" if params else "")
        content, kind = (data, FILE) if json is None else (orjson.dumps(json), JSON)
        kind = (headers or {}).get("Content-Type", kind)
        status, answer = self._vault.exchange(method.upper(), path, content, content_type=kind, wrap_ttl=wrap_ttl or "")
        if status >= 300:
            raise refusal(status)
        return answer

    def batch(self, path: str, ciphertexts: Sequence[str]) -> list[dict[str, Any]]:
        """Vault.batch: hvac knows no partial failure."""
        return self._vault.batch(path, ciphertexts)

    def unwrap(self, wrapping_token: str) -> dict[str, Any]:
        """What was wrapped, by the wrapping token's own right: ours has none. Raises the vault's errors."""
        return self._vault.unwrap_response(wrapping_token)

    def download(self, path: str, write: Callable[[bytes], object]) -> None:
        """A binary answer of any size, piece by piece. Raises request()'s errors, and what `write` raises."""
        # hvac's take_raft_snapshot would go around this adapter.
        status, _ = self._vault.exchange("GET", path, None, write=write)
        if status >= 300:
            raise refusal(status)


def client_of(vault: Vault) -> hvac.Client:
    """hvac's client for a vault's address, limits and token."""
    return hvac.Client(url=vault.url, token="", adapter=partial(BoundedAdapter, vault))  # noqa: S106 it is the vault's


@dataclass(frozen=True, slots=True)
class Wrapping:
    """A response-wrapping token, where it was made (`creation_path`) and the accessor of what it wraps, if any."""

    token: str = field(repr=False)
    creation_path: str
    accessor: str
    seconds: int


def wrapping_of(answer: Mapping[str, Any]) -> Wrapping:
    """What was asked for with a wrap_ttl. Raises VaultMisconfigured for another answer."""
    info = member_of(answer, "wrap_info")
    return Wrapping(
        str(info["token"]), str(info["creation_path"]), str(info.get("wrapped_accessor") or ""), int(info["ttl"])
    )


def read_document(client: hvac.Client, mount: str, path: str) -> dict[str, str]:
    """The entries {data key id: wrapped data key} of a document (kv v2). Raises VaultRefused (404) when there is none."""
    found = client.secrets.kv.v2.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
    data = member_of(found, "data").get("data")
    if not isinstance(data, dict):
        raise VaultRefused("document_missing", "The document of wrapped data keys is missing or deleted.", 404)
    return data


def add_to_document(client: hvac.Client, mount: str, path: str, entries: Mapping[str, str | None]) -> None:
    """Merge entries into a document, creating it when there is none; a lost race to create it is merged too.

    One call for an existing document, two or three for a new one. At most BATCH_ITEMS entries.
    """
    if patch_document(client, mount, path, entries):
        return
    try:
        client.secrets.kv.v2.create_or_update_secret(path, dict(entries), cas=0, mount_point=mount)
        return
    except VaultRefused:
        pass
    if not patch_document(client, mount, path, entries):
        raise VaultRefused("document_missing", "The document of wrapped data keys could not be created.", 404)


def patch_document(client: hvac.Client, mount: str, path: str, entries: Mapping[str, str | None]) -> bool:
    """Merge at most BATCH_ITEMS entries into a document; None takes one out. False: there is no such document.

    hvac's own patch reads the document and writes it whole.
    """
    if len(entries) > BATCH_ITEMS:
        raise ValueError("a patch has at most 400 entries")
    headers = {"Content-Type": MERGE}
    try:
        client.adapter.request("PATCH", f"/v1/{mount}/data/{path}", headers=headers, json={"data": dict(entries)})
    except VaultRefused as refused:
        if refused.status != 404:
            raise
        return False
    return True


def rewrap_data_keys(client: hvac.Client, mount: str, key: str, wrapped: Sequence[str]) -> list[str]:
    """Wrap at most BATCH_ITEMS data keys again under the newest version, in order; nothing is opened on the way.

    Raises DataKeysBroken naming each that failed, besides the vault's errors.
    """
    results = client.adapter.batch(f"{mount}/rewrap/{key}", wrapped)
    broken = [at for at, result in enumerate(results) if result.get("error") or not result.get("ciphertext")]
    if broken:
        raise DataKeysBroken(broken)
    return [str(result["ciphertext"]) for result in results]
