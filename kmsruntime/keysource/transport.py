"""The way from this container to a customer's vault: name, connection, TLS, requests; each with a verdict's code.

It is the preflight's transport, and makes the client that the container uses afterwards. The settings are resolved: no
placeholder is left in them, and the vault may be asked with this token.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from kmscore.byov.customer import CustomerVault, Endpoint, EndpointRefused, endpoint_of, normalised_namespace
from kmscore.byov.preflight import VaultAnswer
from kmscore.vaultclient.answers import VaultError, VaultMisconfigured
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.tls import tls_code

_TIMEOUTS: Final = (0.01, 30.0)  # seconds, least and most: a container waits no longer, whatever its file says
_LISTEN: Final = (0.1, 1.0)  # seconds, least and most, to wait for a late alert
_FILES: Final = {"ca_invalid": "trust-store", "cert_invalid": "key-store"}
_CODES: Final = {"vault_unreachable": "vault_failing", "answer_invalid": "not_a_vault"}
_PROXY_PORT: Final = 3128


class ConnectionSettingsInvalid(ValueError):
    """The settings cannot be used. `preflight.refused(error.code, error.detail)` gives its steps.

    code: uri_refused (detail: EndpointRefused's code, or proxy), file_refused (trust-store or key-store), token_invalid,
    namespace_missing.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code, self.detail = code, detail


def customers_vault(settings: CustomerVault, *, ca: str = "", proxy: str = "") -> Vault:
    """The client for resolved settings. An answer is whole within the read timeout; timeouts are 30 s at most.

    ca: used when they name no trust store. proxy: ``http://host:port``, "" for none.

    Makes no connection. Raises ConnectionSettingsInvalid.
    """
    endpoint = _endpoint(settings.uri)
    _proxy(proxy)
    if not _fits_a_header(settings.token):  # an empty one too: the vault takes no token for an anonymous question
        raise ConnectionSettingsInvalid("token_invalid")
    namespace = normalised_namespace(settings.namespace)
    if namespace and not _fits_a_header(namespace):
        raise ConnectionSettingsInvalid("namespace_missing")
    try:
        return Vault(
            endpoint.address,
            token=settings.token,
            namespace=namespace,
            ca=settings.trust_store or ca or None,
            timeout=(_bounded(settings.connection_timeout), _bounded(settings.read_timeout)),
            within=_bounded(settings.read_timeout),
            pool=4,
            prefix=endpoint.prefix,
            cert=settings.key_store,
            cert_password=settings.key_store_password,
            proxy=proxy,
        )
    except VaultMisconfigured as error:
        code = error.code
    raise ConnectionSettingsInvalid("file_refused" if code in _FILES else "uri_refused", _FILES.get(code, ""))


class CustomerTransport:
    """The preflight's Transport. With a proxy, `resolve` and `connect` speak of the proxy."""

    def __init__(self, settings: CustomerVault, *, ca: str = "", proxy: str = "") -> None:
        """As customers_vault. Raises ConnectionSettingsInvalid."""
        self.vault = customers_vault(settings, ca=ca, proxy=proxy)
        self.namespace = normalised_namespace(settings.namespace)
        self._endpoint, self._proxy = _endpoint(settings.uri), _proxy(proxy)
        self._timeout = _bounded(settings.connection_timeout)
        self._socket: socket.socket | None = None

    def resolve(self) -> str:
        try:
            socket.getaddrinfo(*self._next_hop, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # a name that cannot be one
            return self._proxied("vault_dns")
        return ""

    def connect(self) -> str:
        """Leaves the connection open for `handshake`."""
        try:
            self._socket = socket.create_connection(self._next_hop, self._timeout)
        except TimeoutError:
            return self._proxied("vault_timeout")
        except OSError:
            return self._proxied("vault_refused")
        return ""

    def handshake(self) -> str:
        """Uses up the connection; `tls_none` for http."""
        connection, self._socket = self._socket, None
        if connection is None:
            return "vault_refused"
        with connection:
            if self.vault.tls is None:
                return "tls_none"
            try:
                return self._tunnel(connection) or self._agree(connection, self.vault.tls)
            except TimeoutError:
                return "vault_timeout"
            except OSError as error:  # ssl.SSLError too
                return tls_code(error)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: bool = True,
        namespace: bool = True,
    ) -> VaultAnswer:
        vault = self.vault if token else self.vault.with_token("")
        vault = vault if namespace else vault.with_namespace("")
        try:
            status, answer = vault.status_of(method, path, body)
        except VaultError as error:
            failing = error.code == "not_a_vault" and (error.status or 0) >= 500  # an error page before the vault
            return VaultAnswer(0, code="vault_failing" if failing else _CODES.get(error.code, error.code))
        return VaultAnswer(status, answer or {})

    @property
    def _next_hop(self) -> tuple[str, int]:
        return self._proxy[:2] if self._proxy else (self._endpoint.host, self._endpoint.port)

    def _proxied(self, code: str) -> str:
        return "vault_proxy" if self._proxy else code

    def _tunnel(self, connection: socket.socket) -> str:
        """Ask the proxy for a way through."""
        if self._proxy is None:
            return ""
        place = self._endpoint.address.split("://", 1)[1]
        login = f"Proxy-Authorization: Basic {self._proxy[2]}\r\n" if self._proxy[2] else ""
        connection.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n".encode())
        answer, ends = b"", time.monotonic() + self._timeout
        while b"\r\n\r\n" not in answer and len(answer) < 8192:
            connection.settimeout(max(ends - time.monotonic(), _TIMEOUTS[0]))
            if time.monotonic() > ends:
                return "vault_proxy"
            piece = connection.recv(1)  # byte by byte: what follows is TLS
            if not piece:
                return "vault_proxy"
            answer += piece
        connection.settimeout(self._timeout)
        return "" if answer.split(b" ", 2)[1:2] == [b"200"] else "vault_proxy"

    def _agree(self, connection: socket.socket, context: ssl.SSLContext) -> str:
        began = time.monotonic()
        with context.wrap_socket(connection, server_hostname=self._endpoint.host) as tls:
            # In TLS 1.3 the client is done before the server has looked at its certificate: a refusal comes a little
            # later, and a request sent into it could lose it.
            if tls.version() == "TLSv1.3":
                tls.settimeout(min(max(2 * (time.monotonic() - began), _LISTEN[0]), _LISTEN[1]))
                try:
                    tls.recv(1)
                except TimeoutError:
                    return ""
        return ""


def _endpoint(uri: str) -> Endpoint:
    try:
        return endpoint_of(uri)
    except EndpointRefused as error:
        code = error.code
    raise ConnectionSettingsInvalid("uri_refused", code)


def _proxy(proxy: str) -> tuple[str, int, str] | None:
    """Host, port, and what Proxy-Authorization says; None for no proxy."""
    if not proxy:
        return None
    try:
        parts = urlsplit(proxy)
        if parts.scheme == "http" and parts.hostname:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
            return parts.hostname, parts.port or _PROXY_PORT, base64.b64encode(login.encode()).decode()
    except ValueError:
        pass
    raise ConnectionSettingsInvalid("uri_refused", "proxy")


def _bounded(seconds: float) -> float:
    least, most = _TIMEOUTS
    return min(max(seconds, least), most)


def _fits_a_header(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
