"""What a backup's directory says of itself: `backup.json` beside the files, with sizes and hashes. Pure.

Format 1: {"format", "taken_at", "portal", "layout", "database", "files": {name: {"size", "sha256"}},
"audit": {account code: [seq, fingerprint]}}; database is `sqlite` or `postgresql`, "" when it is not in the backup.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kmscore.durable import new_file

FORMAT: Final = 1
RECORD: Final = "backup.json"
SQLITE: Final = "portal.sqlite3"
POSTGRES: Final = "portal.pgdump"
SNAPSHOT: Final = "vault.snapshot"
PIECE: Final = 1024 * 1024


class BackupBroken(Exception):
    """The directory is no whole backup; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """taken_at: when the backup began. files: {name: (bytes, SHA-256 in hex)}. audit: {account code: (seq, fingerprint)}."""

    taken_at: datetime
    layout: int
    database: str
    files: Mapping[str, tuple[int, str]]
    audit: Mapping[str, tuple[int, str]]


def new_directory(parent: Path, now: datetime) -> Path:
    """A new directory, 0700, named for the time; never one that is there already. Raises OSError."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = parent / f"kms-portal-{now.astimezone(UTC):%Y%m%dT%H%M%S}Z"
    directory.mkdir(mode=0o700)
    return directory


def write(directory: Path, record: BackupRecord) -> None:
    """The last thing a backup writes: without it the directory is no backup. Raises OSError."""
    document = {
        "format": FORMAT,
        "taken_at": record.taken_at.isoformat(),
        "layout": record.layout,
        "database": record.database,
        "files": {name: {"size": size, "sha256": digest} for name, (size, digest) in record.files.items()},
        "audit": {code: list(head) for code, head in record.audit.items()},
    }
    with new_file(directory / RECORD) as file:
        file.write(json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def read(directory: Path) -> BackupRecord:
    """The record, after every file was compared with it. Raises BackupBroken."""
    record = _read(directory)
    for name, expected in record.files.items():
        try:
            found = measured(directory / name)
        except OSError as error:
            raise BackupBroken(f"{directory / name} cannot be read: {error.strerror}.") from None
        if found != expected:
            raise BackupBroken(f"{directory / name} is not what was backed up: its size or SHA-256 is another.")
    return record


def _read(directory: Path) -> BackupRecord:
    try:
        document = json.loads((directory / RECORD).read_bytes())
        files = {str(name): (int(one["size"]), str(one["sha256"])) for name, one in document["files"].items()}
        audit = {str(code): (int(seq), str(print_)) for code, (seq, print_) in document["audit"].items()}
        taken_at = datetime.fromisoformat(document["taken_at"])
        if document["format"] == FORMAT and set(files) <= {SQLITE, POSTGRES, SNAPSHOT} and taken_at.tzinfo:
            return BackupRecord(taken_at, int(document["layout"]), str(document["database"]), files, audit)
    except OSError as error:
        raise BackupBroken(f"{directory / RECORD} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise BackupBroken(f"{directory / RECORD} is not the record of a backup of format {FORMAT}.")


def measured(path: Path) -> tuple[int, str]:
    """(bytes, SHA-256 in hex) of a file. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def copied(source: Path, write_piece: Callable[[bytes], object]) -> None:
    with source.open("rb") as file:
        while piece := file.read(PIECE):
            write_piece(piece)
