"""What this container allows a properties file of the portal to use: `kms-runtime allow-vault`, and options of `enrol`.

Only the command line of this machine changes it; no answer of the portal can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from kmscore.byov.customer import ALLOWED_NAMES, EndpointRefused, endpoint_of
from kmsruntime.disk.home import Config
from kmsruntime.errors import AddressRefused

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"[a-z0-9._-]+|[\da-f:.]+", re.IGNORECASE)  # a name, or an address of IPv6


def allow(config: Config, addresses: Sequence[str], names: Sequence[str]) -> Config:
    """The configuration with more allowed. Raises AddressRefused for what is no vault's address or no variable's name."""
    return replace(
        config,
        allow_vaults=_united(config.allow_vaults, [checked_vault(address) for address in addresses]),
        allow_env=_united(config.allow_env, [_checked_name(name) for name in names]),
    )


def disallow(config: Config, items: Sequence[str]) -> Config:
    """The configuration without these addresses or names. Raises AddressRefused for one that is not in it."""
    vaults, names = list(config.allow_vaults), list(config.allow_env)
    for item in items:
        address = checked_vault(item) if "://" in item else ""
        if item in names:
            names.remove(item)
        elif address in vaults:
            vaults.remove(address)
        elif item in ALLOWED_NAMES:
            raise AddressRefused("always_allowed", "What --remove names is one of the three that are always allowed.")
        else:
            raise AddressRefused(
                "not_allowed_before", "What --remove names is not allowed here; see kms-runtime allow-vault --list."
            )
    return replace(config, allow_vaults=tuple(vaults), allow_env=tuple(names))


def lines(config: Config) -> list[str]:
    """Lines for people: what is allowed now."""
    vaults = [f"vault     {address}" for address in config.allow_vaults] or ["vault     none"]
    return vaults + [f"variable  {name}" for name in (*ALLOWED_NAMES, *config.allow_env)]


def checked_vault(address: str) -> str:
    """Scheme, host and port of a vault's address. Raises AddressRefused unless it is https, or http to this machine."""
    try:
        endpoint = endpoint_of(address)
    except EndpointRefused:
        endpoint = None
    if endpoint is None or not _HOST.fullmatch(endpoint.host):
        raise AddressRefused(
            "address_invalid", "A vault's address must be like https://vault.example.com:8200, and nothing else."
        )
    if not endpoint.is_protected:
        raise AddressRefused(
            "address_not_https", "A vault's address must start with https:// (http is for this machine only)."
        )
    return endpoint.address


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise AddressRefused(
            "name_invalid", "What --allow-env names is not the name of an environment variable (without its value)."
        )
    return name


def _united(before: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *more)))
