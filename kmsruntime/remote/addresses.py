"""Checks the addresses and paths that come from the command line.

They are the only addresses this program ever talks to: no answer of the portal can change them.
"""

from __future__ import annotations

import os
from pathlib import Path

from kmscore.byov.customer import EndpointRefused, endpoint_of
from kmscore.vaultclient.tls import TlsFileInvalid, client_context
from kmsruntime.disk.files import expanded
from kmsruntime.disk.home import names_file
from kmsruntime.disk.place import settled_beside
from kmsruntime.errors import AddressRefused


def checked_address(option: str, address: str) -> str:
    """The address without a trailing slash. Raises AddressRefused unless it is https, or http to this machine."""
    endpoint, code = None, ""
    try:
        endpoint = endpoint_of(address)
    except EndpointRefused as refused:
        code = refused.code
    if code in ("uri_userinfo", "uri_query"):
        raise AddressRefused(
            "address_invalid", f"{option} must be a plain address, without a user name, a password, ? or #."
        )
    if endpoint is None:
        raise AddressRefused("address_invalid", f"{option} must be an address such as https://kms.example.com.")
    if not endpoint.is_protected:
        raise AddressRefused("address_not_https", f"{option} must start with https:// (http is for this machine only).")
    return address.strip().rstrip("/")


def checked_ca(option: str, path: Path | None) -> str:
    """The absolute path of a file of CA certificates, "" for none. Raises AddressRefused when it holds none."""
    if path is None:
        return ""
    try:
        client_context(str(path))
    except TlsFileInvalid:
        raise AddressRefused("ca_invalid", f"{option} must be a readable file of CA certificates (PEM).") from None
    return checked_path(option, str(path.resolve()))


def checked_key_file(option: str, path: Path | None) -> str:
    """The absolute path beside which keys will lie, "" for none. Raises AddressRefused when it names no file, and StorageFailed
    for root where others could put another directory in its place."""
    if path is None:
        return ""
    found = expanded(path)
    # os.path says no where Path raises, of a directory that is closed to us: writing a key there tells that.
    if not names_file(found) or os.path.isdir(settled_beside(found.parent) / found.name):
        raise AddressRefused("path_invalid", f"{option} must name a file, and not a directory: a file in it, perhaps.")
    return checked_path(option, str(found))


def checked_path(option: str, path: str) -> str:
    """The path, which will be kept in a file. Raises AddressRefused when it is no text."""
    if path.encode(errors="replace").decode() != path:
        raise AddressRefused("path_invalid", f"{option} and the directories above it must have names in UTF-8.")
    return path
