"""The portal's own logins: made at the vault, and the files that hold them, one per process's directory, mode 0600.

Pure. Format 1 of ``identities.json``: ``{"format": 1, "layout": 1, "identities": {"web": {"role_id", "secret_id", "expires"}}}``,
where expires is ISO 8601 in UTC; while role_ids are being renewed each has its ``next_role_id`` too. Beside it lie the keys that
the process signs with (accounts/keyring.py).
"""

from __future__ import annotations

import fcntl
import os
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
from hvac import Client

from kmscore.durable import Owner, write_durably
from kmscore.private_file import NotPrivate, read_private
from kmscore.vaultclient.answers import VaultRefused, member_of, text_of
from kmscore.vaultclient.mounts import PLATFORM
from vaults.hosted.layout import LAYOUT_VERSION

FORMAT: Final = 1
_SHARED: Final = stat.S_IWGRP | stat.S_IWOTH
LIFE: Final = timedelta(hours=768)  # layout.MAX_TTL, which the roles give
IDENTITIES_FILE: Final = "identities.json"
# Which identities a process holds. Web must never get the worker's: the two together can enrol a runtime.
HELD: Final[Mapping[str, tuple[str, ...]]] = {
    "web": ("web", "issuer"),
    "worker": ("provisioner", "rotator"),
    # Who destroys logins makes none, and is not who writes down whose they are.
    "watch": ("watch",),
    # The rotator beside it: whoever destroys keys also proves it, by a rewrap before and after; neither can read.
    "shredder": ("shredder", "rotator"),
    "backup": ("backup",),
}


_NAMES: Final = frozenset(name for names in HELD.values() for name in names)


class CredentialsBroken(Exception):
    """The file is missing, readable by others, or not one of format 1. The text says which, without contents."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An AppRole login at `platform/`. The vault knows one of the role_ids: the next one is written down before it gets it."""

    role_id: str = field(repr=False)
    secret_id: str = field(repr=False)
    expires: datetime
    next_role_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one process holds: the layout version it was made for and {identity: Credential}."""

    layout: int
    identities: Mapping[str, Credential]


def write_credentials(directory: Path, credentials: Credentials) -> None:
    """Write a process's file, 0600, durably: a reader sees the old one or the new one. Raises OSError."""
    identities = {
        name: {"role_id": one.role_id, "secret_id": one.secret_id, "expires": one.expires.isoformat()}
        | ({"next_role_id": one.next_role_id} if one.next_role_id else {})
        for name, one in credentials.identities.items()
    }
    document = {"format": FORMAT, "layout": credentials.layout, "identities": identities}
    path = directory / IDENTITIES_FILE
    write_durably(path, orjson.dumps(document, option=orjson.OPT_INDENT_2), owner=given_to(path))


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """The one that writes a process's file: its renewal and an operator's change must not undo each other. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def given_to(path: Path) -> Owner | None:
    """The process whose file it is, by root's own word: whom its directory, or the file in root's, was given to, where nobody
    but root could have put either."""
    if os.geteuid() != 0 or not _is_roots(path.parent.parent if path.parent.stat().st_uid else path.parent):
        return None
    directory = path.parent.stat()
    if directory.st_uid:
        return None if directory.st_mode & _SHARED else (directory.st_uid, directory.st_gid)
    with suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            return found.st_uid, found.st_gid
    return None


def _is_roots(directory: Path) -> bool:
    found = directory.stat()
    return found.st_uid == 0 and not found.st_mode & _SHARED


def read_credentials(directory: Path) -> Credentials:
    """Read a process's file. Raises CredentialsBroken."""
    path = directory / IDENTITIES_FILE
    document = _document(path)
    try:
        identities = {name: _credential(one) for name, one in document["identities"].items()}
        if document["format"] == FORMAT and _NAMES.issuperset(identities):  # a name is part of an address at the vault
            return Credentials(int(document["layout"]), identities)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise CredentialsBroken(f"{path} is not a credentials file of format {FORMAT}.")


def _document(path: Path) -> dict[str, Any]:
    try:
        document = orjson.loads(read_private(path))
    except NotPrivate as problem:
        mend = "; make it mode 0600 and renew the credentials" if problem.open_to_others else ""
        raise CredentialsBroken(f"{path} {problem}{mend}.") from None
    except OSError as error:
        raise CredentialsBroken(f"{path} cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError:
        document = None
    return document if isinstance(document, dict) else {}


def _credential(one: Mapping[str, str]) -> Credential:
    expires = datetime.fromisoformat(one["expires"])
    if expires.tzinfo is None:
        raise ValueError("a time without its zone")
    return Credential(str(one["role_id"]), str(one["secret_id"]), expires, str(one.get("next_role_id", "")))


# -- at the vault -------------------------------------------------------------------------------------------------------


def log_in(client: Client, credential: Credential, *, use_token: bool = True) -> dict[str, Any]:
    """The vault's answer to a login by whichever role_id it knows. Raises VaultError."""

    def by(role_id: str) -> dict[str, Any]:
        return dict(client.auth.approle.login(role_id, credential.secret_id, use_token=use_token, mount_point=PLATFORM))

    try:
        return by(credential.role_id)
    except VaultRefused:
        if not credential.next_role_id:
            raise
    return by(credential.next_role_id)


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
    """Whether a credential logs in, has more than a third of its life left, and is not of a renewal that broke off."""
    if credential.expires - datetime.now(UTC) < LIFE / 3 or credential.next_role_id:
        return False
    try:
        log_in(client, credential, use_token=False)
    except VaultRefused:
        return False
    return True


def install_credentials(client: Client, directory: Path) -> str:
    """Write the file of one of HELD if it is missing or used up; a line for people. Old logins go after the new are on disk.

    The client has a root-like token; the directory has the process's name, and exists. Raises VaultError, OSError.
    """
    path, wanted = directory / IDENTITIES_FILE, HELD[directory.name]
    with alone(directory):
        old = _old(directory)
        if set(old) == set(wanted) and all(still_good(client, one) for one in old.values()):
            return f"{path} is kept."
        new = {identity: issue_credential(client, identity) for identity in wanted}
        write_credentials(directory, Credentials(LAYOUT_VERSION, new))
    for identity, credential in old.items():
        revoke_credential(client, identity, credential)
    return _written(path, new)


def renew_credentials(client: Client, directories: Sequence[Path]) -> list[str]:
    """New role_ids and secret_ids in the files of all of HELD; a line for people about each.

    A role has one role_id, so the next one stands in every file beside the present one before the vault gets it: whatever
    breaks off, each file logs in. Whoever saw an earlier file knows nothing of use, in whatever machine's directory it was.
    The client has a root-like token; the directories have the processes' names, and exist. Raises VaultError, OSError.
    """
    with ExitStack() as stack:
        for directory in directories:
            stack.enter_context(alone(directory))
        return _renewed(client, directories)


def _renewed(client: Client, directories: Sequence[Path]) -> list[str]:
    old = {directory: _old(directory) for directory in directories}
    next_ids = {identity: str(uuid.uuid4()) for held in HELD.values() for identity in held}
    new = {
        directory: {
            identity: replace(issue_credential(client, identity), next_role_id=next_ids[identity])
            for identity in HELD[directory.name]
        }
        for directory in directories
    }
    for directory, issued in new.items():
        write_credentials(directory, Credentials(LAYOUT_VERSION, issued))
    for identity, role_id in next_ids.items():
        client.auth.approle.update_role_id(identity, role_id, mount_point=PLATFORM)
    lines = []
    for directory, issued in new.items():
        now = {name: replace(one, role_id=one.next_role_id, next_role_id="") for name, one in issued.items()}
        write_credentials(directory, Credentials(LAYOUT_VERSION, now))
        lines.append(_written(directory / IDENTITIES_FILE, now))
    for known in old.values():
        for identity, credential in known.items():
            revoke_credential(client, identity, credential)
    return lines


def _written(path: Path, new: Mapping[str, Credential]) -> str:
    until = min(one.expires for one in new.values())
    return f"{path} is written, valid until {until:%Y-%m-%d %H:%M} UTC."


def _old(directory: Path) -> dict[str, Credential]:
    try:
        return dict(read_credentials(directory).identities)
    except CredentialsBroken:
        return {}
