"""The portal's own logins: made at the vault, and the files that hold them, one per process, mode 0600.

Pure. Format 1: ``{"format": 1, "layout": 1, "identities": {"web": {"role_id", "secret_id", "expires"}}}``,
where expires is ISO 8601 in UTC.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
from hvac import Client

from kmscore.durable import Owner, write_durably
from kmscore.vaultclient.answers import VaultRefused, member_of, text_of
from kmscore.vaultclient.mounts import PLATFORM
from vaults.hosted.layout import LAYOUT_VERSION

FORMAT: Final = 1
LIFE: Final = timedelta(hours=768)  # layout.MAX_TTL, which the roles give
# Which identities a process holds. Web must never get the worker's file: the two together can enrol a runtime.
FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "web.json": ("web", "issuer"),
    "worker.json": ("provisioner", "rotator", "revoker"),
    # The rotator beside it: whoever destroys keys also proves it, by a rewrap before and after; neither can read.
    "shredder.json": ("shredder", "rotator"),
    "backup.json": ("backup",),
}


class CredentialsBroken(Exception):
    """The file is missing, readable by others, or not one of format 1. The text says which, without contents."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An AppRole login at `platform/`."""

    role_id: str = field(repr=False)
    secret_id: str = field(repr=False)
    expires: datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one process holds: the layout version it was made for and {identity: Credential}."""

    layout: int
    identities: Mapping[str, Credential]


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Write a file, 0600, durably: a reader sees the old one or the new one. Raises OSError.

    Root makes it root's; one that is there already stays with whom it was given to, where nobody but root could have put it.
    """
    identities = {
        name: {"role_id": one.role_id, "secret_id": one.secret_id, "expires": one.expires.isoformat()}
        for name, one in credentials.identities.items()
    }
    document = {"format": FORMAT, "layout": credentials.layout, "identities": identities}
    write_durably(path, orjson.dumps(document, option=orjson.OPT_INDENT_2), owner=_given_to(path))


def _given_to(path: Path) -> Owner | None:
    """The process whose file it is, by root's own word."""
    directory = path.parent.stat()
    if os.geteuid() != 0 or directory.st_uid != 0 or directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    with suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            return found.st_uid, found.st_gid
    return None


def read_credentials(path: Path) -> Credentials:
    """Read a file. Raises CredentialsBroken."""
    document = _document(path)
    try:
        identities = {name: _credential(one) for name, one in document["identities"].items()}
        if document["format"] == FORMAT:
            return Credentials(int(document["layout"]), identities)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise CredentialsBroken(f"{path} is not a credentials file of format {FORMAT}.")


def _document(path: Path) -> dict[str, Any]:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise CredentialsBroken(f"{path} can be read by others; make it mode 0600 and renew the credentials.")
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise CredentialsBroken(f"{path} cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError:
        document = None
    return document if isinstance(document, dict) else {}


def _credential(one: Mapping[str, str]) -> Credential:
    return Credential(str(one["role_id"]), str(one["secret_id"]), datetime.fromisoformat(one["expires"]))


# -- at the vault -------------------------------------------------------------------------------------------------------


def issue_credential(client: Client, identity: str) -> Credential:
    """A new secret_id for a platform identity, valid LIFE from now. Earlier ones stay valid."""
    approle = client.auth.approle
    role_id = text_of(member_of(approle.read_role_id(identity, mount_point=PLATFORM), "data"), "role_id")
    secret_id = text_of(member_of(approle.generate_secret_id(identity, mount_point=PLATFORM), "data"), "secret_id")
    return Credential(role_id, secret_id, datetime.now(UTC).replace(microsecond=0) + LIFE)


def revoke_credential(client: Client, identity: str, credential: Credential) -> None:
    """Destroy one secret_id; one that is already gone is not an error. Tokens made with it live on for ≤ 15 minutes."""
    try:
        client.auth.approle.destroy_secret_id(identity, credential.secret_id, mount_point=PLATFORM)
    except VaultRefused:
        return


def still_good(client: Client, credential: Credential) -> bool:
    """Whether a credential logs in and has more than a third of its life left."""
    if credential.expires - datetime.now(UTC) < LIFE / 3:
        return False
    try:
        client.auth.approle.login(credential.role_id, credential.secret_id, use_token=False, mount_point=PLATFORM)
    except VaultRefused:
        return False
    return True


def install_file(client: Client, path: Path, *, renew: bool = False) -> str:
    """Write one of FILES if it is missing or used up, or when told to; a line for people. Old logins go after the new are on disk.

    The client has a root-like token, and the directory exists. Raises VaultError, OSError.
    """
    old = _old(path)
    wanted = FILES[path.name]
    if not renew and set(old) == set(wanted) and all(still_good(client, one) for one in old.values()):
        return f"{path} is kept."
    new = {identity: issue_credential(client, identity) for identity in wanted}
    write_credentials(path, Credentials(LAYOUT_VERSION, new))
    for identity, credential in old.items():
        revoke_credential(client, identity, credential)
    until = min(one.expires for one in new.values())
    return f"{path} is written, valid until {until:%Y-%m-%d %H:%M} UTC."


def _old(path: Path) -> dict[str, Credential]:
    try:
        return dict(read_credentials(path).identities)
    except CredentialsBroken:
        return {}
