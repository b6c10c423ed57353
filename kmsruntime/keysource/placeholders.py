"""Puts this container's environment into a properties file's placeholders, and refuses to be an exfiltration tool.

Pure. A file comes from whoever may edit the Atom's settings in the portal; what lies on this container is not theirs. So
only whole values and allowed names are resolved, and what the container gives (a token, a key store) is only ever used
with a vault that is named on the container. Nothing is contacted here, and no text of here holds a resolved value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from kmscore.byov.customer import (
    ALLOWED_NAMES,
    TEXTS,
    CustomerVault,
    Endpoint,
    EndpointRefused,
    endpoint_of,
    holds_placeholder,
    normalised_namespace,
    placeholder_of,
)

# Variables of this machine that no file has to ask for.
CA: Final = "VAULT_CACERT"
PROXY: Final = "VAULT_PROXY_ADDR"
_NEEDED: Final = ("uri", "token")
Code = Literal["confirm_vault", "env_missing", "env_not_allowed", "placeholder_in_text", "uri_refused"]


class Unresolved(Exception):
    """The file cannot be used here (yet). code: of the preflight's step "address".

    detail: a variable's name, a setting's (trust-store), an address, or EndpointRefused's code; never a value.
    missing: names of variables that are not set on this container.
    """

    def __init__(self, code: Code, detail: str, missing: Sequence[str] = ()) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.missing = code, detail, tuple(missing)


@dataclass(frozen=True, slots=True)
class LocalEnvironment:
    """What a file is resolved with: this machine's environment variables, and what its command line allowed."""

    environment: Mapping[str, str] = field(repr=False)
    allow_vaults: Sequence[str] = ()
    allow_env: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A customer's vault without placeholders. ca: file of CA certificates, "" for the system's; proxy: "" for none."""

    vault: CustomerVault
    endpoint: Endpoint
    ca: str
    proxy: str = field(repr=False)


def resolve(vault: CustomerVault, container: LocalEnvironment) -> Resolved:
    """The vault as it is to be contacted. Raises Unresolved."""
    texts = {name: getattr(vault, name) for name in TEXTS}
    asked = {name: placeholder for name, text in texts.items() if (placeholder := placeholder_of(text))}
    for name, text in texts.items():
        if name not in asked and holds_placeholder(text):
            raise Unresolved("placeholder_in_text", name.replace("_", "-"))
    for placeholder in asked.values():
        if placeholder.name not in (*ALLOWED_NAMES, *container.allow_env):
            raise Unresolved("env_not_allowed", placeholder.name)
    given = {name: value for name, one in asked.items() if (value := container.environment.get(one.name)) is not None}
    defaults = {name: one.default for name, one in asked.items() if name not in given and one.default is not None}
    found: dict[str, Any] = {name: _bound(name, text) for name, text in (texts | defaults | given).items()}
    missing = [
        one.name
        for name, one in asked.items()
        if (name not in given and name not in defaults) or (name in _NEEDED and not found[name])
    ]
    if missing:
        raise Unresolved("env_missing", missing[0], missing)
    endpoint = _endpoint(found["uri"])
    if (
        "uri" not in given
        and _gives(found, given)
        and endpoint.address not in allowed_addresses(container.allow_vaults)
    ):
        raise Unresolved("confirm_vault", endpoint.address)
    return Resolved(
        replace(vault, **found),
        endpoint,
        found["trust_store"] or container.environment.get(CA, ""),
        container.environment.get(PROXY, "")
        if endpoint.scheme == "https"
        else "",  # what is this machine's stays on it
    )


def allowed_addresses(addresses: Sequence[str]) -> set[str]:
    """Addresses as they are compared: scheme, host and port. What is none, in a file that somebody wrote, allows none."""
    found = set()
    for address in addresses:
        with suppress(EndpointRefused):
            found.add(endpoint_of(address).address)
    return found


def _gives(found: Mapping[str, str], given: Mapping[str, str]) -> bool:
    """Whether anything of this container would be used: a variable's value, or a key store, which is a file of it."""
    return bool(set(given) - {"uri"}) or bool(found["key_store"])


def _bound(name: str, text: str) -> str:
    """A setting's text as the file's reader takes it, wherever it came from: a variable's as well."""
    if name == "key_store_password":
        return text
    if name == "namespace":
        return normalised_namespace(text)
    return re.sub(r"^file:(?://(?=/))?", "", text.strip()) if name in ("trust_store", "key_store") else text.strip()


def _endpoint(uri: str) -> Endpoint:
    """Raises Unresolved unless it is https, or http to this machine."""
    code = "uri_scheme"
    try:
        endpoint = endpoint_of(uri)
        if endpoint.is_protected:
            return endpoint
    except EndpointRefused as refused:
        code = refused.code
    raise Unresolved("uri_refused", code)
