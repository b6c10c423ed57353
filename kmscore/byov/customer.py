"""The customer's vault (Bring Your Own Vault) as the uploaded properties file names it, and what its texts may refer to.

Pure, and shared: the portal reads a file into a `CustomerVault` and seals it for the Atom as JSON; the container decodes it
again. Texts may be placeholders, which stay as they are here and are resolved on the container only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

FORMAT: Final = 1
FILE_PATH: Final = ("file",)  # where the file is sealed for its Atom (kind "kms-file") …
SETTINGS_PATH: Final = ("settings",)  # … and where the settings are, which name the file
ALLOWED_NAMES: Final = ("VAULT_URI", "VAULT_NAMESPACE", "AUTH_TOKEN")  # resolved without `--allow-env`
_WHOLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_.-]{0,127})(?::((?:(?!\$\{).)*))?\}", re.DOTALL)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class CustomerVaultBroken(ValueError):
    """The text is not the settings of a customer's vault; never says what it held."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """`session.lifecycle` of Spring Cloud Vault. Times in seconds; defaults are Spring's (5 s and 7 s)."""

    enabled: bool = True
    refresh_before_expiry: float = 5.0
    expiry_threshold: float = 7.0


@dataclass(frozen=True, slots=True)
class CustomerVault:
    """How a container reaches the customer's vault. uri is always set; namespace "" is the root namespace.

    Timeouts in seconds (Spring's defaults). trust_store and key_store: paths of PEM files on the container, "" for none;
    key_store_password opens the client's private key. Any of the texts may be a placeholder.
    """

    uri: str
    token: str = field(repr=False)
    namespace: str = ""
    connection_timeout: float = 5.0
    read_timeout: float = 15.0
    lifecycle: Lifecycle = Lifecycle()
    trust_store: str = ""
    key_store: str = ""
    key_store_password: str = field(default="", repr=False)

    def encode(self) -> bytes:
        """JSON, sorted, so that the same settings are the same bytes."""
        return orjson.dumps({"format": FORMAT} | asdict(self), option=orjson.OPT_SORT_KEYS)

    def placeholders(self) -> dict[str, Placeholder]:
        """The texts that are whole placeholders, by the setting's name."""
        found = {name: placeholder_of(getattr(self, name)) for name in TEXTS}
        return {name: one for name, one in found.items() if one}


TEXTS: Final = ("uri", "token", "namespace", "trust_store", "key_store", "key_store_password")
_NUMBERS: Final = ("connection_timeout", "read_timeout")
MOST_SECONDS: Final = 366 * 86400.0  # of any time that a file may name; a wait of more does not fit every clock


def decode_customer_vault(text: bytes) -> CustomerVault:
    """The inverse of `encode`, strictly. Raises CustomerVaultBroken."""
    try:
        document = orjson.loads(text)
        if document.pop("format") == FORMAT:
            document["lifecycle"] = _lifecycle(document["lifecycle"])
            _check(document, CustomerVault, dict.fromkeys(TEXTS, str) | dict.fromkeys(_NUMBERS, float))
            _check_times(*(document[name] for name in _NUMBERS))
            return CustomerVault(**document)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    raise CustomerVaultBroken("not the settings of a customer's vault")


def _lifecycle(document: Mapping[str, Any]) -> Lifecycle:
    _check(document, Lifecycle, {"enabled": bool, "refresh_before_expiry": float, "expiry_threshold": float})
    _check_times(document["refresh_before_expiry"], document["expiry_threshold"])
    return Lifecycle(**document)


def _check_times(*seconds: float) -> None:
    if not all(0 <= one <= MOST_SECONDS for one in seconds):
        raise TypeError


def _check(document: Mapping[str, Any], made: type, types: Mapping[str, type]) -> None:
    if set(document) != {one.name for one in fields(made)}:
        raise TypeError
    if any(type(document[name]) is not kind for name, kind in types.items()):
        raise TypeError


# -- placeholders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`${NAME}` or `${NAME:default}`; default is None when there is none."""

    name: str
    default: str | None


def placeholder_of(text: str) -> Placeholder | None:
    """The placeholder a text is as a whole; None for every other text, one with a placeholder inside included."""
    found = _WHOLE.fullmatch(text)
    return Placeholder(found[1], found[2]) if found else None


def holds_placeholder(text: str) -> bool:
    """Whether any part of the text looks like a placeholder."""
    return "${" in text


# -- addresses ---------------------------------------------------------------------------------------------------------


class EndpointRefused(ValueError):
    """The uri cannot be used; `code` says why: uri_invalid, uri_scheme, uri_host, uri_port, uri_userinfo, uri_query."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a uri leads, as Spring Vault's VaultEndpoint reads it: no port means 443 or 80, a path replaces the prefix v1."""

    scheme: str
    host: str
    port: int
    prefix: str = "v1"

    @property
    def is_protected(self) -> bool:
        """Whether nobody on the way can read what is sent there: https, or http to this machine."""
        return self.scheme == "https" or is_loopback(self.host)

    @property
    def address(self) -> str:
        """Scheme, host and port, as `runtime allow-vault` compares them: ``https://vault.example.com:8200``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def endpoint_of(uri: str) -> Endpoint:
    """Read a uri without placeholders. Raises EndpointRefused."""
    text = uri.strip()
    if not text.isprintable() or any(c.isspace() for c in text) or "\\" in text:
        raise EndpointRefused("uri_invalid")
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        raise EndpointRefused("uri_invalid") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise EndpointRefused("uri_scheme")
    if not host:
        raise EndpointRefused("uri_host")
    if parts.username is not None or parts.password is not None:
        raise EndpointRefused("uri_userinfo")
    if parts.query or parts.fragment:
        raise EndpointRefused("uri_query")
    return Endpoint(parts.scheme, host, _port(parts), parts.path.strip("/") or "v1")


def _port(parts: Any) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if not 1 <= port <= 65535:
        raise EndpointRefused("uri_port")
    return int(port)


def is_loopback(host: str) -> bool:
    """Whether a host is the machine itself, by its address or as localhost, in whatever case."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def normalised_namespace(namespace: str) -> str:
    """The header's text: ``/admin/`` is ``admin``; ``/`` and ``root`` are "", no header at all."""
    text = namespace.strip().strip("/")
    return "" if text == "root" else text


ACCOUNT_CODE: Final = r"[a-z0-9_]+-[A-Z0-9]{6}"  # an account's code, of the form acme-X1Y2Z3


def key_name(account_code: str, container_id: str) -> str:
    """The transit key of a container: accountID_containerID (seed)."""
    return f"{account_code}_{container_id}"
