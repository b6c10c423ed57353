"""The credentials files of the portal's processes: one file per process, mode 0600, written whole or not at all.

Pure. Format 1: ``{"format": 1, "layout": 1, "identities": {"web": {"role_id", "secret_id", "expires"}}}``,
where expires is ISO 8601 in UTC.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

FORMAT: Final = 1
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
    """Write a file, 0600, atomically: a reader sees the old one or the new one. Raises OSError."""
    identities = {
        name: {"role_id": one.role_id, "secret_id": one.secret_id, "expires": one.expires.isoformat()}
        for name, one in credentials.identities.items()
    }
    document = {"format": FORMAT, "layout": credentials.layout, "identities": identities}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
