"""The one client of a Vault or OpenBao server, for the portal and for the runtime.

Pure of Django. Everything is explicit (address, token, CA, timeouts) and nothing is taken from the environment. Answers are
read raw and turned into the errors of answers.py, with a status and our words: a vault's own text can hold plaintexts.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson

from kmscore.vaultclient.answers import (
    ANSWER_BYTES,
    DataKeysBroken,
    IssuedDataKey,
    Login,
    VaultError,
    VaultMisconfigured,
    VaultRefused,
    VaultUnavailable,
    WrappingOrigin,
    batch_key_of,
    data_key_of,
    decoded,
    member_of,
    moment_of,
    number_of,
    refusal,
    text_of,
    token_of,
    version_of,
)
from kmscore.vaultclient.http import Body, HttpClient, HttpFailed, Limits
from kmscore.vaultclient.tls import TLS_SENTENCES, TlsFileInvalid, client_context

Item = TypeVar("Item")

BATCH_ITEMS: Final = 400  # a default listener refuses 500: every JSON key and value counts towards 1,000 strings
TIMEOUT: Final = (2.0, 5.0)  # seconds to connect, seconds to wait for each piece of an answer
WITHIN: Final = 30.0  # seconds from a request to the end of its answer
JSON: Final = "application/json"


class Vault:
    """A server's address and a token for it. Threads may share it; a token change is a new object on the same pool."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        namespace: str = "",
        ca: str | None = None,
        timeout: tuple[float, float] = TIMEOUT,
        within: float = WITHIN,
        pool: int = 32,
        prefix: str = "v1",
        cert: str = "",
        cert_password: str = "",
        proxy: str = "",
    ) -> None:
        """url: without the prefix. timeout: seconds to connect, and to wait for each piece of an answer; within: for all
        of it, from when the request is sent. ca, cert: paths of PEM files.

        prefix: what stands before every path, `v1` but where a proxy serves the vault elsewhere. cert: the client's
        certificate and key in one file, for mutual TLS; cert_password opens the key and is not kept. proxy: its address.
        Raises VaultMisconfigured: address_invalid, ca_invalid, cert_invalid.
        """
        if not url.startswith(("http://", "https://")):
            raise VaultMisconfigured("address_invalid", "The vault's address must start with https:// or http://.")
        self.url = url.rstrip("/")
        self._token, self._namespace, self._prefix = token, namespace.strip("/"), prefix.strip("/")
        self.tls = self._context(ca, cert, cert_password)
        limits = Limits(connect=timeout[0], silence=timeout[1], within=within, most=ANSWER_BYTES, pool=pool)
        self._http = HttpClient(self.url, self.tls, limits, proxy=proxy)

    def _context(self, ca: str | None, cert: str, cert_password: str) -> ssl.SSLContext | None:
        if self.url.startswith("http://"):
            return None
        try:
            return client_context(ca or "", cert, cert_password)
        except TlsFileInvalid as invalid:
            failure = VaultMisconfigured(invalid.code, invalid.sentence)
        raise failure

    def with_token(self, token: str) -> Vault:
        """The same server with another token, sharing the connections."""
        return self._copy(token, self._namespace)

    def with_namespace(self, namespace: str) -> Vault:
        """The same server and token in another namespace; "" sends none."""
        return self._copy(self._token, namespace)

    def _copy(self, token: str, namespace: str) -> Vault:
        other = object.__new__(Vault)
        other.url, other._prefix, other.tls, other._http = self.url, self._prefix, self.tls, self._http
        other._token, other._namespace = token, namespace.strip("/")
        return other

    # -- every call ------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request. Returns the decoded answer ({} when empty); raises VaultUnavailable, VaultRefused, VaultMisconfigured."""
        status, answer = self.status_of(method, path, body)
        if status < 300:
            return answer or {}
        raise refusal(status)

    def status_of(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any] | None]:
        """One request, whatever the status: the status and the decoded answer, None when it is empty.

        Raises VaultUnavailable when nobody answers, VaultMisconfigured for a redirect, a page or a TLS failure.
        """
        status, answer = self.exchange(method, path, None if body is None else orjson.dumps(body))
        return status, answer or None

    def exchange(
        self,
        method: str,
        path: str,
        content: Body | None,
        *,
        content_type: str = JSON,
        wrap_ttl: str = "",
        write: Callable[[bytes], object] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """What every call comes to. content: as it is sent; a file goes piece by piece.

        write: gets a 2xx answer piece by piece, of whatever size. wrap_ttl: asks for the answer response-wrapped, for so
        long ("60s"). Raises as status_of, and what `write` raises.
        """
        headers = {"X-Vault-Request": "true", "Content-Type": content_type if content is not None else ""}
        headers |= {"X-Vault-Token": self._token, "X-Vault-Namespace": self._namespace, "X-Vault-Wrap-TTL": wrap_ttl}
        sent = {name: text for name, text in headers.items() if text}
        try:
            found = self._http.request(method, f"/{self._prefix}/{path}", sent, content, write=write)
        except HttpFailed as failed:
            code = failed.code
        else:
            return found.status, decoded(found)
        raise _failure(code)

    # -- logging in ------------------------------------------------------------------------------------------------

    def login(self, mount: str, role_id: str, secret_id: str) -> Login:
        """AppRole login at `auth/<mount>`. Raises VaultRefused when either id is not accepted (any more)."""
        answer = self.call("POST", f"auth/{mount}/login", {"role_id": role_id, "secret_id": secret_id})
        auth = member_of(answer, "auth")
        return Login(token_of(auth, "client_token"), number_of(auth, "lease_duration"))

    def lookup_wrapping(self, wrapping_token: str) -> WrappingOrigin:
        """Where and when a wrapping token was made; does not use it up. Raises VaultRefused when it is used or expired."""
        data = member_of(self.call("POST", "sys/wrapping/lookup", {"token": wrapping_token}), "data")
        return WrappingOrigin(
            text_of(data, "creation_path"), moment_of(data, "creation_time"), number_of(data, "creation_ttl")
        )

    def server_time(self) -> int:
        """The vault's own clock, in seconds since 1970; asks without a token."""
        answer = self.call("GET", "sys/health?standbyok=true&perfstandbyok=true")
        if "server_time_utc" not in answer:
            raise VaultMisconfigured("not_a_vault", "What answers at the vault's address is not a vault.")
        return number_of(answer, "server_time_utc")

    def unwrap_response(self, wrapping_token: str) -> dict[str, Any]:
        """Fetch what a wrapping token holds, once. Raises VaultRefused when it is used, expired or unknown."""
        # The wrapping token is the login itself: named in the body, it needs another token with a policy for it (403).
        answer = self.with_token(wrapping_token).call("POST", "sys/wrapping/unwrap")
        return member_of(answer, "data")

    # -- data keys -------------------------------------------------------------------------------------------------

    def new_data_key(self, mount: str, key: str) -> IssuedDataKey:
        """A new 256-bit data key from transit key `key`, in the clear and wrapped."""
        data = member_of(self.call("POST", f"{mount}/datakey/plaintext/{key}", {"bits": "256"}), "data")
        wrapped = text_of(data, "ciphertext")
        return IssuedDataKey(data_key_of(data), wrapped, version_of(data, wrapped))

    def unwrap_data_keys(self, mount: str, key: str, wrapped: Sequence[str]) -> list[bytes]:
        """Unwrap at most BATCH_ITEMS data keys in one call, in order.

        Raises DataKeysBroken naming each that failed, besides call()'s errors. The caller chunks (`chunks`).
        """
        keys = [batch_key_of(result) for result in self.batch(f"{mount}/decrypt/{key}", wrapped)]
        opened = [one for one in keys if one is not None]
        if len(opened) < len(keys):
            raise DataKeysBroken([position for position, one in enumerate(keys) if one is None])
        return opened

    def batch(self, path: str, ciphertexts: Sequence[str]) -> list[dict[str, Any]]:
        """Ask transit about at most BATCH_ITEMS ciphertexts in one call: a result for each, in order; those that failed
        say `error`. Raises call()'s errors when there are no results."""
        if len(ciphertexts) > BATCH_ITEMS:
            raise ValueError("a batch has at most 400 items")
        if not ciphertexts:
            return []
        body = {"batch_input": [{"ciphertext": text} for text in ciphertexts], "partial_failure_response_code": 200}
        status, answer = self.exchange("POST", path, orjson.dumps(body))
        # When every item fails the status is 400 but the results are there: item by item, never by the status alone.
        data = answer.get("data")
        results = data.get("batch_results") if isinstance(data, dict) else None
        if isinstance(results, list) and [type(one) for one in results] == [dict] * len(ciphertexts):
            return results
        if status < 300:
            raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
        raise refusal(status)

    def new_wrapped_data_key(self, mount: str, key: str) -> tuple[str, int]:
        """A new 256-bit data key from transit key `key`, wrapped only, and the version of the key that wrapped it."""
        data = member_of(self.call("POST", f"{mount}/datakey/wrapped/{key}", {"bits": "256"}), "data")
        wrapped = text_of(data, "ciphertext")
        return wrapped, version_of(data, wrapped)

    def unwrap_data_key(self, mount: str, key: str, wrapped: str) -> bytes:
        """Unwrap one data key. Raises VaultRefused when the vault does not allow it or cannot open it."""
        data = member_of(self.call("POST", f"{mount}/decrypt/{key}", {"ciphertext": wrapped}), "data")
        return data_key_of(data)

    # -- the token itself ------------------------------------------------------------------------------------------

    def lookup_self(self) -> dict[str, Any]:
        """What the vault knows of this token; the token itself, which it repeats, is dropped at once."""
        data = member_of(self.call("GET", "auth/token/lookup-self"), "data")
        return {name: value for name, value in data.items() if name != "id"}

    def renew_self(self) -> dict[str, Any]:
        """Renew this token: `lease_duration` and `renewable`, without the token itself.

        Without an increment: one would shorten a long token, too.
        """
        auth = member_of(self.call("POST", "auth/token/renew-self"), "auth")
        return {name: value for name, value in auth.items() if name != "client_token"}

    # -- documents of wrapped data keys (kv v2) --------------------------------------------------------------------

    def read_document(self, mount: str, path: str) -> dict[str, str]:
        """The entries {data key id: wrapped data key} of a document. Raises VaultRefused (404) when there is none.

        What is no text is no wrapped data key: whoever asks for it finds it missing, by its name.
        """
        data = member_of(self.call("GET", f"{mount}/data/{path}"), "data").get("data")
        if not isinstance(data, dict):
            raise VaultRefused("document_missing", "The document of wrapped data keys is missing or deleted.", 404)
        return {name: text for name, text in data.items() if isinstance(text, str)}


def chunks(items: Sequence[Item], size: int = BATCH_ITEMS) -> Iterator[Sequence[Item]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _failure(code: str) -> VaultError:
    """The error that http.HttpFailed's code stands for; not raised here."""
    if code in TLS_SENTENCES:
        return VaultMisconfigured(code, TLS_SENTENCES[code])
    if code == "proxy":
        return VaultUnavailable("vault_proxy", "The proxy before the vault does not let the request through.")
    if code == "timeout":
        return VaultUnavailable("vault_timeout", "The vault did not answer in time.")
    if code == "unreachable":
        return VaultUnavailable("vault_unreachable", "The vault cannot be reached.")
    return VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
