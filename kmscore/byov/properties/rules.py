"""The rules of a vault's settings: from the entries of a properties file to a `CustomerVault`, with a finding for every trap.

Pure. Each rule says a code and an offset; severity and sentence are the catalogue's. A rule never hands on what a file
holds, except the names of variables and an address that was accepted.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from kmscore.byov.customer import (
    ALLOWED_NAMES,
    MOST_SECONDS,
    TEXTS,
    CustomerVault,
    Endpoint,
    EndpointRefused,
    Lifecycle,
    Placeholder,
    endpoint_of,
    holds_placeholder,
    is_loopback,
    normalised_namespace,
    placeholder_of,
)
from kmscore.byov.properties import binding
from kmscore.byov.properties.keys import Remarks, Settings
from kmscore.byov.properties.syntax import PropertyLine

_MAX_TIMEOUT: Final = 600_000
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._~@+=,:-]+(/[A-Za-z0-9._~@+=,:-]+)*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=:-]+")
_ROOT_TOKENS: Final = frozenset(
    ("root", "myroot", "s.root", "hvs.root", "dev-only-token", "00000000-0000-0000-0000-000000000000")
)
_BINARY_STORES: Final = (".jks", ".p12", ".pfx", ".keystore", ".truststore", ".bcfks", ".jceks")


def setting_of(text: str) -> str:
    """The setting's name in the file for one of `CustomerVault`'s texts: key_store is ssl.key-store."""
    name = text.replace("_", "-")
    return f"ssl.{name}" if "store" in name else name


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable the container needs for a setting (``ssl.trust-store``); optional when the file has a default for it."""

    name: str
    setting: str
    optional: bool


class Rules:
    """Applied once to the settings of one file; `variables` (with their offsets) grow while `vault` reads them."""

    def __init__(self, settings: Settings, remarks: Remarks) -> None:
        self._settings = settings
        self._remarks = remarks
        self.variables: list[tuple[int, Variable]] = []

    def vault(self) -> CustomerVault:
        """The settings; of use only when no remark is an error."""
        uri = self._address()
        vault = CustomerVault(
            uri=uri,
            token=self._token(),
            namespace=self._namespace(),
            connection_timeout=self._timeout("connection-timeout", 5.0),
            read_timeout=self._timeout("read-timeout", 15.0),
            lifecycle=self._lifecycle(),
            trust_store=self._store("trust-store"),
            key_store=self._store("key-store"),
            key_store_password=self._password(),
        )
        self._authentication()
        address = address_to_confirm(vault)
        if address:
            self._remarks.say(
                "confirm_vault", self._settings.entry("uri") or self._settings.entry("host"), address=address
            )
        return vault

    # -- values --------------------------------------------------------------------------------------------------------

    def _fixed(self, name: str) -> tuple[PropertyLine | None, str]:
        """The same for a setting that takes no placeholder; one that holds one is as if it was not set."""
        entry, value = self._settings.value(name)
        if entry and (holds_placeholder(value) or binding.lacks_dollar(value) or binding.is_nearly_placeholder(value)):
            self._remarks.say("placeholder_not_here", entry, setting=name)
            self._settings.refuse(name)
            return None, ""
        return entry, value

    def _placeholder(self, name: str, entry: PropertyLine, value: str) -> Placeholder | None:
        """The placeholder a value is as a whole, noted as a variable the container needs."""
        placeholder = placeholder_of(value.strip())
        if placeholder is None:
            return None
        if binding.TOKEN.search(placeholder.name):
            self._remarks.say("placeholder_holds_token", entry)
            return placeholder
        default = placeholder.default
        optional = is_optional(name, placeholder)
        self.variables.append((entry.at, Variable(placeholder.name, name, optional)))
        if name in binding.SECRET and default:
            self._remarks.say("placeholder_default_secret", entry, name=placeholder.name)
        elif default == "" and not optional:
            self._remarks.say("placeholder_default_empty", entry, name=placeholder.name, setting=name)
        if placeholder.name not in ALLOWED_NAMES:
            self._remarks.say("placeholder_not_allowed", entry, name=placeholder.name)
        return placeholder

    def _is_plain(self, entry: PropertyLine, value: str, *, secret: bool = False) -> bool:
        """Whether a text is none of the things that are mistaken for a placeholder, and no token in a wrong place."""
        if holds_placeholder(value) and re.search(r"\$\{[^}]*\$\{", value):
            self._remarks.say("placeholder_nested", entry)
        elif binding.is_nearly_placeholder(value):
            self._remarks.say("placeholder_malformed", entry)
        elif holds_placeholder(value):
            self._remarks.say("placeholder_in_text", entry)
        elif binding.lacks_dollar(value):
            self._remarks.say("placeholder_without_dollar", entry)
        elif not secret and binding.TOKEN.search(value):
            self._remarks.say("token_misplaced", entry)
        else:
            return True
        return False

    def _address(self) -> str:
        entry, value = self._settings.value("uri")
        if not entry:
            return self._address_of_parts()
        for name in ("scheme", "host", "port"):
            unused = self._settings.entry(name)
            if unused:
                self._remarks.say("uri_wins", unused.keys[-1], setting=name)
        placeholder = self._placeholder("uri", entry, value)
        if not placeholder:
            self._check_uri(entry, value)
        elif placeholder.default:
            self._check_uri(entry, placeholder.default)
        return value.strip()

    def _address_of_parts(self) -> str:
        host, name = self._fixed("host")
        if not host:
            if not self._settings.is_refused("uri") and not self._settings.is_refused("host"):
                self._remarks.say("uri_missing", self._settings.entry("uri"))
            return ""
        scheme, scheme_text = self._fixed("scheme")
        port, port_text = self._fixed("port")
        name, scheme_text = name.strip(), scheme_text.strip().lower() or "https"
        number = to_port(port_text or "8200")
        if number is None:
            self._remarks.say("uri_port", port)
        if scheme_text not in ("https", "http"):
            self._remarks.say("uri_scheme", scheme)
        if self._is_plain(host, name):
            self._check_host(host, name)
            self._check_http(scheme or host, scheme_text, name)
        return f"{scheme_text}://{f'[{name}]' if ':' in name else name}:{number}"

    def _check_uri(self, entry: PropertyLine, value: str) -> None:
        if not self._is_plain(entry, value):
            return
        if binding.is_unfilled_address(value):
            self._remarks.say("unfilled_sample", entry)
            return
        try:
            endpoint = endpoint_of(value)
        except EndpointRefused as refused:
            code = refused.code
        else:
            self._check_endpoint(entry, value.strip(), endpoint)
            return
        self._remarks.say(code, entry)

    def _check_endpoint(self, entry: PropertyLine, value: str, endpoint: Endpoint) -> None:
        self._check_host(entry, endpoint.host, "uri_host")
        self._check_http(entry, endpoint.scheme, endpoint.host)
        if urlsplit(value).port is None:
            self._remarks.say("uri_no_port", entry, port=str(endpoint.port))
        if endpoint.prefix != "v1":
            self._remarks.say("uri_path", entry)

    def _check_host(self, entry: PropertyLine, host: str, code: str = "host_invalid") -> None:
        if not _HOST.fullmatch(host) and not _is_ip(host):
            self._remarks.say(code, entry)

    def _check_http(self, entry: PropertyLine, scheme: str, host: str) -> None:
        if scheme == "http":
            self._remarks.say("uri_http_loopback" if is_loopback(host) else "uri_http", entry)

    def _authentication(self) -> None:
        entry, value = self._fixed("authentication")
        word = binding.to_enum(value)
        if entry and word != "token":
            known = word in binding.AUTHENTICATIONS
            meant = "" if known or not re.fullmatch("t[oken]{2,6}s?", word) else "token"
            self._remarks.say("authentication" if known else "authentication_unknown", entry, meant)

    def _token(self) -> str:
        entry, value = self._settings.value("token")
        if not entry:
            if not self._settings.is_refused("token"):
                self._remarks.say("token_missing", self._settings.entry("token"))
            return ""
        if self._placeholder("token", entry, value):
            return value.strip()
        if self._is_plain(entry, value, secret=True):
            code = token_trap(value)
            if code:
                self._remarks.say(code, entry)
        return value

    def _namespace(self) -> str:
        entry, value = self._settings.value("namespace")
        if not entry:
            return ""
        placeholder = self._placeholder("namespace", entry, value)
        if placeholder and not placeholder.default:
            return value.strip()
        text = placeholder.default if placeholder and placeholder.default else value
        if not self._is_plain(entry, text):
            return ""
        if re.fullmatch(r"<.*>|(?:your|vault)[-_].*|namespace|x{3,}|change[-_]?me", text.strip(), re.IGNORECASE):
            self._remarks.say("unfilled_sample", entry)
            return ""
        namespace = normalised_namespace(text)
        if namespace and not _NAMESPACE.fullmatch(namespace):
            self._remarks.say("namespace_invalid", entry)
        elif namespace != text.strip():
            meaning = "without the slashes around it" if namespace else "as the root namespace"
            self._remarks.say("namespace_normalised", entry, meaning=meaning)
        return f"${{{placeholder.name}:{namespace}}}" if placeholder else namespace

    def _lifecycle(self) -> Lifecycle:
        name = "session.lifecycle.enabled"
        entry, value = self._fixed(name)
        enabled = binding.to_boolean(value) if entry else True
        if enabled is None:
            self._remarks.say("boolean_invalid", entry, setting=name)
        elif not enabled:
            self._remarks.say("lifecycle_disabled", entry)
        refresh_entry, refresh = self._duration("session.lifecycle.refresh-before-expiry", 5.0)
        threshold_entry, threshold = self._duration("session.lifecycle.expiry-threshold", 7.0)
        if enabled and threshold <= refresh and (threshold_entry or refresh_entry):
            words = {"threshold": f"{threshold:g}", "refresh": f"{refresh:g}"}
            self._remarks.say("threshold_not_above_refresh", threshold_entry or refresh_entry, **words)
        return Lifecycle(bool(enabled), refresh, threshold)

    def _duration(self, name: str, default: float) -> tuple[PropertyLine | None, float]:
        entry, value = self._fixed(name)
        if not entry:
            return None, default
        seconds = binding.to_seconds(value)
        if seconds is None:
            self._remarks.say("duration_invalid", entry)
        elif seconds < 0:
            self._remarks.say("duration_negative", entry, setting=name)
        elif seconds > MOST_SECONDS:
            self._remarks.say("duration_long", entry, setting=name)
        else:
            if binding.is_bare_number(value):
                self._remarks.say("duration_bare", entry, seconds=f"{seconds:g}")
            return entry, float(seconds)
        return None, default

    def _timeout(self, name: str, default: float) -> float:
        entry, value = self._fixed(name)
        if not entry:
            return default
        number = binding.to_whole_number(value)
        if number is None:
            self._remarks.say("timeout_invalid", entry, setting=name)
        elif not 1 <= number <= _MAX_TIMEOUT:
            self._remarks.say("timeout_range", entry, setting=name)
        else:
            return number / 1000
        return default

    def _store(self, store: str) -> str:
        name = f"ssl.{store}"
        entry, value = self._settings.value(name)
        if not entry:
            return ""
        kind, kind_text = self._fixed(f"{name}-type")
        pem = binding.to_enum(kind_text) == "pem"
        if kind and not pem:
            self._remarks.say("store_not_pem", kind)
        placeholder = self._placeholder(name, entry, value)
        if placeholder and not placeholder.default:
            return value.strip()
        text = (placeholder.default if placeholder and placeholder.default else value).strip()
        if not self._is_plain(entry, text):
            return ""
        path = re.sub(r"^file:(?://(?=/))?", "", text)
        code = store_trap(path) or ("store_not_pem" if path.lower().endswith(_BINARY_STORES) and not kind else "")
        if code:
            self._remarks.say(code, entry)
        elif not path.startswith("/") and not re.match(r"[A-Za-z]:[/\\]", path):
            self._remarks.say("store_relative", entry)
        return f"${{{placeholder.name}:{path}}}" if placeholder else path

    def _password(self) -> str:
        unused = self._settings.value("ssl.trust-store-password")[0]
        if unused:
            self._remarks.say("store_password_not_used", unused.keys[-1])
        entry, value = self._settings.value("ssl.key-store-password")
        if not entry:
            return ""
        if not self._settings.value("ssl.key-store")[0]:
            self._remarks.say("not_used", entry.keys[-1], setting="ssl.key-store-password")
        if self._placeholder("ssl.key-store-password", entry, value):
            return value.strip()
        if holds_placeholder(value):
            self._is_plain(entry, value, secret=True)
        return value


# -- what a text is ----------------------------------------------------------------------------------------------------


def address_to_confirm(vault: CustomerVault) -> str:
    """The address a container must be told it may send what is its own to: a variable's value, a client certificate.

    "" when nothing of it is in question.
    """
    held = vault.key_store or any(placeholder_of(getattr(vault, name)) for name in TEXTS if name != "uri")
    named = placeholder_of(vault.uri)
    uri = vault.uri if named is None else named.default
    if not held or not uri:
        return ""
    try:
        return endpoint_of(uri).address
    except EndpointRefused:
        return ""


def is_optional(setting: str, placeholder: Placeholder) -> bool:
    """Whether a container can do without the variable: it has a default, which is empty only where a setting may be."""
    return placeholder.default is not None and (placeholder.default != "" or setting not in ("uri", "token"))


def token_trap(token: str) -> str:
    """The code of what is wrong with a literal token, or ""."""
    if binding.is_unfilled(token):
        return "unfilled_sample"
    if token in _ROOT_TOKENS:
        return "token_root"
    if not _TOKEN.fullmatch(token):
        return "token_not_one_word"
    for prefixes, code in ((("b.", "hvb."), "token_batch"), (("r.", "hvr."), "token_recovery")):
        if token.startswith(prefixes):
            return code
    return ""


def store_trap(path: str) -> str:
    """The code of what keeps a text from being the path of a file on the container, or ""."""
    if path.startswith(("classpath:", "classpath*:")):
        return "store_classpath"
    if "-----BEGIN" in path:
        return "store_inline"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path):
        return "store_url"
    if not path.isprintable() or len(path) > 1024:
        return "store_invalid"
    if re.fullmatch(r"<.*>|(?:/?path/to/.*)|x{3,}|\.{2,}", path):
        return "unfilled_sample"
    return ""


def to_port(text: str) -> int | None:
    """A port's number from 1 to 65535."""
    number = binding.to_whole_number(text)
    return number if number is not None and 1 <= number <= 65535 else None


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
