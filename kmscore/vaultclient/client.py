"""The one client of a Vault or OpenBao server, for the portal and for the runtime.

Pure of Django. hvac is used with everything explicit (address, token, CA, timeouts) and nothing taken from the
environment: no proxies, no ambient token, no redirects. hvac's own exceptions can hold plaintexts of a batch, so they
are never raised here: answers are read raw and turned into the errors of answers.py, with a status and our words.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, Any, Final, TypeVar

import hvac
import orjson
import requests
from hvac.adapters import RawAdapter

from kmscore.vaultclient.answers import (
    DataKey,
    DataKeysBroken,
    Login,
    VaultError,
    VaultMisconfigured,
    VaultRefused,
    VaultUnavailable,
    Wrapping,
    WrappingOrigin,
    bytes_of,
    data_key_of,
    decoded,
    is_late,
    member_of,
    read_body,
    refusal,
    text_of,
    version_of,
)
from kmscore.vaultclient.tls import TLS_SENTENCES, Adapter, TlsFileInvalid, client_context, tls_code

__all__ = [
    "BATCH_ITEMS",
    "TIMEOUT",
    "WITHIN",
    "DataKey",
    "DataKeysBroken",
    "Login",
    "Vault",
    "VaultError",
    "VaultMisconfigured",
    "VaultRefused",
    "VaultUnavailable",
    "Wrapping",
    "WrappingOrigin",
    "chunks",
]

Item = TypeVar("Item")

BATCH_ITEMS: Final = 400  # a default listener refuses 500: every JSON key and value counts towards 1,000 strings
TIMEOUT: Final = (2.0, 5.0)  # seconds to connect, seconds to wait for each piece of an answer
WITHIN: Final = 30.0  # seconds from a request to the end of its answer


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
        self._namespace = namespace.strip("/")
        self._timeout = timeout
        self._prefix = prefix.strip("/")
        self.tls = self._context(ca, cert, cert_password)
        self._session = _session(self.tls, pool, proxy, within)
        self._client = self._make(token)

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
        return self._copy(self._client.token, namespace)

    def _copy(self, token: str, namespace: str) -> Vault:
        other = object.__new__(Vault)
        other.url, other._prefix, other._timeout, other.tls = self.url, self._prefix, self._timeout, self.tls
        other._namespace, other._session = namespace.strip("/"), self._session
        other._client = other._make(token)
        return other

    def _make(self, token: str) -> hvac.Client:
        return hvac.Client(
            url=self.url,
            token=token,
            namespace=self._namespace or None,
            verify=True,
            timeout=self._timeout,
            allow_redirects=False,
            session=self._session,
            adapter=RawAdapter,
            ignore_exceptions=True,
        )

    # -- every call ------------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        wrap_ttl: str | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """One request. Returns the decoded answer ({} when empty); raises VaultUnavailable, VaultRefused, VaultMisconfigured."""
        status, answer = self._exchange(method, path, body, wrap_ttl, content_type)
        if status < 300:
            return answer
        raise refusal(status)

    def status_of(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any] | None]:
        """One request, whatever the status: the status and the decoded answer, None when it is empty.

        Raises VaultUnavailable when nobody answers, VaultMisconfigured for a redirect, a page or a TLS failure.
        """
        status, answer = self._exchange(method, path, body, None, "application/json")
        return status, answer or None

    def download(self, path: str, write: Callable[[bytes], object]) -> None:
        """A binary answer of any size, piece by piece. Raises call()'s errors, and what `write` raises."""
        status, _ = self._exchange("GET", path, None, None, "", write=write)
        if status >= 300:
            raise refusal(status)

    def upload(self, path: str, file: IO[bytes]) -> None:
        """POST a file as it is, piece by piece. Raises call()'s errors."""
        status, _ = self._exchange("POST", path, None, None, "application/octet-stream", file=file)
        if status >= 300:
            raise refusal(status)

    def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        wrap_ttl: str | None,
        content_type: str,
        *,
        write: Callable[[bytes], object] | None = None,
        file: IO[bytes] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        failure: VaultError | None = None
        response, content = None, b""
        sent = orjson.dumps(body) if body is not None else file
        headers = {"Content-Type": content_type} if sent is not None else {}
        try:
            response = self._client.adapter.request(
                method,
                f"/{self._prefix}/{path}",
                headers=headers,
                wrap_ttl=wrap_ttl,
                data=sent,
                stream=True,
            )
            if write is not None and response.status_code < 300:
                for piece in response.iter_content(1024 * 1024):
                    write(piece)
            else:
                content = read_body(response)
        except requests.exceptions.SSLError as error:
            failure = VaultMisconfigured(tls_code(error), TLS_SENTENCES[tls_code(error)])
        except requests.exceptions.ProxyError:
            failure = VaultUnavailable("vault_proxy", "The proxy before the vault does not let the request through.")
        except requests.exceptions.Timeout:
            failure = VaultUnavailable("vault_timeout", "The vault did not answer in time.")
        except requests.exceptions.ConnectionError as error:
            failure = VaultUnavailable("vault_unreachable", "The vault cannot be reached.")
            if is_late(error):
                failure = VaultUnavailable("vault_timeout", "The vault did not answer in time.")
        except requests.exceptions.RequestException:
            failure = VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
        # Raised outside the handler: a chained exception would keep the request, token included, alive in tracebacks.
        if failure is not None or response is None:
            raise failure or VaultUnavailable("vault_unreachable", "The vault cannot be reached.")
        return response.status_code, decoded(response, content)

    # -- logging in ------------------------------------------------------------------------------------------------

    def login(self, mount: str, role_id: str, secret_id: str) -> Login:
        """AppRole login at `auth/<mount>`. Raises VaultRefused when either id is not accepted (any more)."""
        answer = self.call("POST", f"auth/{mount}/login", {"role_id": role_id, "secret_id": secret_id})
        auth = member_of(answer, "auth")
        return Login(str(auth["client_token"]), int(auth["lease_duration"]))

    def wrapped(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: int) -> Wrapping:
        """Ask for an answer that only a single-use token can fetch, within `seconds`."""
        info = member_of(self.call(method, path, body, wrap_ttl=f"{seconds}s"), "wrap_info")
        return Wrapping(
            str(info["token"]), str(info["creation_path"]), str(info.get("wrapped_accessor") or ""), int(info["ttl"])
        )

    def creation_path(self, wrapping_token: str) -> str:
        """The path a wrapping token was made at; does not use the token up."""
        return self.lookup_wrapping(wrapping_token).creation_path

    def lookup_wrapping(self, wrapping_token: str) -> WrappingOrigin:
        """Where and when a wrapping token was made; does not use it up. Raises VaultRefused when it is used or expired."""
        data = member_of(self.call("POST", "sys/wrapping/lookup", {"token": wrapping_token}), "data")
        try:
            made = datetime.fromisoformat(str(data["creation_time"]))
            return WrappingOrigin(str(data["creation_path"]), int(made.timestamp()), int(data["creation_ttl"]))
        except (KeyError, ValueError, TypeError):
            pass
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")

    def server_time(self) -> int:
        """The vault's own clock, in seconds since 1970; asks without a token."""
        answer = self.call("GET", "sys/health?standbyok=true&perfstandbyok=true")
        if not isinstance(answer.get("server_time_utc"), int):
            raise VaultMisconfigured("not_a_vault", "What answers at the vault's address is not a vault.")
        return int(answer["server_time_utc"])

    def unwrap_response(self, wrapping_token: str) -> dict[str, Any]:
        """Fetch what a wrapping token holds, once. Raises VaultRefused when it is used, expired or unknown."""
        # The wrapping token is the login itself: named in the body, it needs another token with a policy for it (403).
        answer = self.with_token(wrapping_token).call("POST", "sys/wrapping/unwrap")
        return member_of(answer, "data")

    # -- data keys -------------------------------------------------------------------------------------------------

    def new_data_key(self, mount: str, key: str) -> DataKey:
        """A new 256-bit data key from transit key `key`, in the clear and wrapped."""
        data = member_of(self.call("POST", f"{mount}/datakey/plaintext/{key}", {"bits": "256"}), "data")
        wrapped = text_of(data, "ciphertext")
        return DataKey(data_key_of(data), wrapped, version_of(data, wrapped))

    def unwrap_data_keys(self, mount: str, key: str, wrapped: Sequence[str]) -> list[bytes]:
        """Unwrap at most BATCH_ITEMS data keys in one call, in order.

        Raises DataKeysBroken naming each that failed, besides call()'s errors. The caller chunks (`chunks`).
        """
        results = self._batch(f"{mount}/decrypt/{key}", wrapped)
        broken = [
            position for position, result in enumerate(results) if result.get("error") or not result.get("plaintext")
        ]
        if broken:
            raise DataKeysBroken(broken)
        return [bytes_of(result["plaintext"]) for result in results]

    def rewrap_data_keys(self, mount: str, key: str, wrapped: Sequence[str]) -> list[str]:
        """Wrap at most BATCH_ITEMS data keys again under the newest version, in order; nothing is opened on the way."""
        results = self._batch(f"{mount}/rewrap/{key}", wrapped)
        broken = [
            position for position, result in enumerate(results) if result.get("error") or not result.get("ciphertext")
        ]
        if broken:
            raise DataKeysBroken(broken)
        return [str(result["ciphertext"]) for result in results]

    def _batch(self, path: str, ciphertexts: Sequence[str]) -> list[dict[str, Any]]:
        if len(ciphertexts) > BATCH_ITEMS:
            raise ValueError("a batch has at most 400 items")
        if not ciphertexts:
            return []
        body = {"batch_input": [{"ciphertext": text} for text in ciphertexts], "partial_failure_response_code": 200}
        status, answer = self._exchange("POST", path, body, None, "application/json")
        # When every item fails the status is 400 but the results are there: item by item, never by the status alone.
        data = answer.get("data")
        results = data.get("batch_results") if isinstance(data, dict) else None
        if isinstance(results, list) and len(results) == len(ciphertexts):
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
        """The entries {data key id: wrapped data key} of a document. Raises VaultRefused (404) when there is none."""
        data = member_of(self.call("GET", f"{mount}/data/{path}"), "data").get("data")
        if not isinstance(data, dict):
            raise VaultRefused("document_missing", "The document of wrapped data keys is missing or deleted.", 404)
        return data

    def add_to_document(self, mount: str, path: str, entries: Mapping[str, str]) -> None:
        """Merge entries into a document, creating it when there is none; a lost race to create it is merged too.

        One call for an existing document, two or three for a new one. At most BATCH_ITEMS entries.
        """
        if self.patch_document(mount, path, entries):
            return
        try:
            self.call("POST", f"{mount}/data/{path}", {"data": dict(entries), "options": {"cas": 0}})
            return
        except VaultRefused:
            pass
        if not self.patch_document(mount, path, entries):
            raise VaultRefused("document_missing", "The document of wrapped data keys could not be created.", 404)

    def patch_document(self, mount: str, path: str, entries: Mapping[str, str | None]) -> bool:
        """Merge at most BATCH_ITEMS entries into a document; None takes one out. False: there is no such document."""
        if len(entries) > BATCH_ITEMS:
            raise ValueError("a patch has at most 400 entries")
        status, _ = self._exchange(
            "PATCH", f"{mount}/data/{path}", {"data": dict(entries)}, None, "application/merge-patch+json"
        )
        if status == 404:
            return False
        if status >= 300:
            raise refusal(status)
        return True


def chunks(items: Sequence[Item], size: int = BATCH_ITEMS) -> Iterator[Sequence[Item]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _session(context: ssl.SSLContext | None, pool: int, proxy: str, within: float) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxies, no .netrc, no CA bundle from the environment
    session.proxies = {"http": proxy, "https": proxy} if proxy else {}
    adapter = Adapter(context, pool, within)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session
