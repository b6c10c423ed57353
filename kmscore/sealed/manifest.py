"""The manifest: the list of everything an environment holds, sealed with each save.

Pure. The runtime accepts what the portal sends only if it matches the manifest, so a value, a plain value, a name or a
revision that was moved, swapped, dropped or rolled back in the database is noticed (DESIGN.md §1, I8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import orjson

from kmscore.sealed.envelope import Place

FORMAT: Final = 1
Path = tuple[str, ...]
Form = Literal["sealed", "plain", "component", "missing", "lost"]


class ManifestBroken(Exception):
    """The manifest is not one of this format, or what was delivered does not match it."""


class Entry(NamedTuple):
    """One thing an environment holds.

    form: ``sealed`` (a ciphertext), ``plain`` (digest says which value), ``missing`` (an encrypted field that was left
    without a value; ``component`` in lists sealed when that was still taken for the component's value) or ``lost`` (a
    ciphertext whose data key the vault lost: it is not delivered, and a runtime that holds that very value keeps it).
    name: what people call it (the connection's name). revision: the value's, counting from 1. digest: which value it is:
    SHA-256 of a plain value in hex, the id of a sealed value's data key (each save has its own, so a value of the same
    revision from before a restore is another one), else "".
    """

    form: Form
    path: Path
    name: str
    revision: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An environment's revision and its entries. restored: how often the operator announced that a backup was put back;
    values of one place and revision may be others than before that. sealed: every path that ever was, which stays so."""

    environment: str
    revision: int
    entries: tuple[Entry, ...]
    restored: int = 0
    sealed: frozenset[Path] = frozenset()

    def encode(self) -> bytes:
        """JSON: {"format", "environment", "revision", "entries": [[form, path, name, revision, digest], …]}, and "restored"
        and "sealed" ([path, …], sorted) when there is something to say."""
        rows = [tuple(entry) for entry in self.entries]
        document = {"format": FORMAT, "environment": self.environment, "revision": self.revision, "entries": rows}
        more = {"restored": self.restored, "sealed": sorted(self.sealed)}
        return orjson.dumps(document | {name: value for name, value in more.items() if value})


def decode(data: bytes) -> Manifest:
    """Read an encoded manifest. Raises ManifestBroken."""
    try:
        document = orjson.loads(data)
        if document["format"] != FORMAT:
            raise ManifestBroken("a manifest of another format")
        entries = tuple(
            Entry(form, tuple(path), name, revision, digest)
            for form, path, name, revision, digest in document["entries"]
        )
        sealed = frozenset(tuple(path) for path in document.get("sealed", []))
        restored = int(document.get("restored", 0))
        return Manifest(document["environment"], document["revision"], entries, restored, sealed)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        pass
    raise ManifestBroken("not a manifest")


def digest(plain: str) -> str:
    """SHA-256 of a plain value, in hex."""
    return hashlib.sha256(plain.encode()).hexdigest()


def manifest_place(account: str, environment: str, revision: int, data_key_id: str) -> Place:
    """Where the manifest of an environment's revision belongs."""
    return Place(account, environment, "manifest", (), revision, data_key_id)


def value_place(account: str, environment: str, path: Iterable[str], revision: int, data_key_id: str) -> Place:
    """Where a sealed extension value belongs."""
    return Place(account, environment, "extension", tuple(path), revision, data_key_id)
