"""The at-rest store: everything this container holds, sealed under one data key, in one file.

    bytes                what
    11                   magic "KMSSTORE/1\\n"
    4                    length of the header, big-endian
    n                    header (JSON, see Header): readable without a key
    32                   SHA-256 of the header: tells damage of the header from damage elsewhere
    4 + k                with a wrapped encryption key only: length and sealed credentials, at ("credentials", the same SHA-256)
    4                    length of the sealed index, 0 when the store is empty
    m                    index (kmsruntime/store/index.py), sealed for its place (path ("index", SHA-256 of the header))
    rest                 the sealed values, in the index's order, each bound to Atom, environment, path and revision

Every byte is covered: magic, header and index by the seal of the index, credentials and values by their own. Values are
opened one by one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Final

import orjson

from kmscore.sealed.envelope import KEY_BYTES, Bound, SealBroken
from kmscore.sealed.manifest import Entry, Path
from kmsruntime.disk.typed import built
from kmsruntime.errors import StoreDamaged
from kmsruntime.store.index import Entries, Index, IndexEntry
from kmsruntime.store.index import decode as decode_index
from kmsruntime.store.index import encode as encode_index

MAGIC: Final = b"KMSSTORE/1\n"
FORMAT: Final = 1
_DIGEST_BYTES: Final = 32
_KEY_ID: Final = re.compile(r"[0-9a-z-]*")  # part of a file's name


@dataclass(frozen=True, slots=True)
class Header:
    """What a store says of itself. Times are for people (UTC, ISO 8601); revisions decide.

    environment "" is detached (or not fetched yet); key_id "" is an empty store without a key. wrapped: the data key as
    the vault `source` wrapped it with version key_version of its key key_name. settings_revision: the KMS settings this
    store is sealed for. seen: the highest revision ever accepted, by environment; it outlives a detachment, so that
    nothing older is taken afterwards. restored: by environment, how many restores of the portal were met.
    memory_only: a wrapped encryption key, which is in memory only; such a store has a
    key even when it is empty, because it holds the credentials of the environment's half. rekey_revision: the portal's
    newest request for a new data key that this one came after.
    """

    account: str
    atom: str
    environment: str = ""
    environment_name: str = ""
    revision: int = 0
    attachment_revision: int = 0
    settings_revision: int = 0
    etag: str = ""
    source: str = "hosted"
    key_name: str = ""
    key_version: int = 0
    key_id: str = ""
    wrapped: str = field(default="", repr=False)
    sealed_at: str = ""
    seen: Mapping[str, int] = field(default_factory=dict)
    restored: Mapping[str, int] = field(default_factory=dict)
    memory_only: bool = False
    rekey_revision: int = 0


@dataclass(frozen=True)
class Store:
    """A store as read from its file; values stay sealed until `open` or `open_all`. credentials: b"" unless memory_only."""

    header: Header
    key: bytes = field(default=b"", repr=False)
    body: bytes = field(default=b"", repr=False)
    index: Index = field(default_factory=Index, repr=False)
    credentials: bytes = field(default=b"", repr=False)

    @cached_property
    def held(self) -> list[IndexEntry]:
        """Everything the environment holds, in the manifest's order."""
        return list(self.index)

    def open(self, held: IndexEntry) -> bytes:
        """A sealed entry's value. Raises StoreDamaged."""
        sealed = self.body[held.start : held.start + held.size]
        path = (self.header.environment, *held.path)
        return _opened(self.header, self.key, [(path, held.revision, sealed)])[0]

    def open_all(self) -> list[bytes]:
        """The values of all sealed entries, in order. Raises StoreDamaged."""
        if not len(self.index):
            return []
        return _opened(self.header, self.key, self.index.sealed_values(self.header.environment, self.body))

    def entries(self) -> Entries:
        """Everything held, opened, as `encode` takes it. Raises StoreDamaged."""
        values = iter(self.open_all())
        return [
            (
                Entry(one.form, one.path, one.name, one.revision, one.digest),
                next(values) if one.form == "sealed" else one.plain if one.form == "plain" else None,
            )
            for one in self.held
        ]


def encode(header: Header, key: bytes, entries: Entries, credentials: bytes = b"") -> list[bytes]:
    """The parts of a store's file. entries: each with its value, bytes when sealed, text when plain, else None.

    key: 32 bytes, used for this store only. An empty store (key_id "") has no entries and key b"". credentials: of the
    environment's half, in a memory_only store and only there.
    """
    if bool(credentials) != header.memory_only or (header.memory_only and not header.key_id):
        raise ValueError("credentials lie in a store with a wrapped encryption key, and only there")
    text = orjson.dumps({"format": FORMAT} | asdict(header))
    digest = hashlib.sha256(text).digest()
    front = [MAGIC, len(text).to_bytes(4, "big"), text, digest]
    if not header.key_id:
        return [*front, (0).to_bytes(4, "big")]
    bound, environment = _bound(header), header.environment
    if header.memory_only:
        block = bound.seal_many(key, header.key_id, [(_credentials_path(digest), header.revision, credentials)])[0]
        front += [len(block).to_bytes(4, "big"), block]
    secret = [
        ((environment, *entry.path), entry.revision, value) for entry, value in entries if isinstance(value, bytes)
    ]
    sealed = bound.seal_many(key, header.key_id, secret)
    listing = encode_index(entries, list(map(len, sealed)))
    index = bound.seal_many(key, header.key_id, [(_index_path(digest), header.revision, listing)])[0]
    return [*front, len(index).to_bytes(4, "big"), index, *sealed]


@dataclass(frozen=True, slots=True)
class Front:
    """A store's header, its digest checked, and everything behind it, still sealed."""

    header: Header
    digest: bytes
    rest: bytes = field(repr=False)

    def open(self, key: bytes) -> Store:
        """Open the index. key: of the header's key_id; b"" for an empty store. Raises StoreDamaged."""
        header, credentials, rest = self.header, self.credentials(key), self._behind_credentials()
        size = int.from_bytes(rest[:4], "big")
        end = 4 + size
        if len(rest) < max(end, 4) or bool(size) != bool(header.key_id) or (not size and len(rest) > end):
            raise damaged()
        if not size:
            return Store(header)
        sealed = (_index_path(self.digest), header.revision, rest[4:end])
        index = decode_index(_opened(header, key, [sealed])[0])
        if index.size != len(rest) - end:
            raise damaged()
        return Store(header, key, rest[end:], index, credentials)

    def credentials(self, key: bytes) -> bytes:
        """The credentials in a memory_only store, b"" in others; damage behind them does not matter. Raises StoreDamaged."""
        if not self.header.memory_only:
            return b""
        block = self.rest[4 : 4 + int.from_bytes(self.rest[:4], "big")]
        sealed = (_credentials_path(self.digest), self.header.revision, block)
        return _opened(self.header, key, [sealed])[0]

    def _behind_credentials(self) -> bytes:
        if not self.header.memory_only:
            return self.rest
        return self.rest[4 + int.from_bytes(self.rest[:4], "big") :]


def read_front(content: bytes) -> Front:
    """What can be read without a key. Raises StoreDamaged when the header was changed."""
    at = len(MAGIC) + 4
    end = at + int.from_bytes(content[len(MAGIC) : at], "big")
    text, digest = content[at:end], content[end : end + _DIGEST_BYTES]
    if not content.startswith(MAGIC) or hashlib.sha256(text).digest() != digest:
        raise damaged()
    return Front(_header(text), digest, content[end + _DIGEST_BYTES :])


def decode(content: bytes, key: bytes) -> Store:
    """Open a store's index. Raises StoreDamaged."""
    return read_front(content).open(key)


def damaged() -> StoreDamaged:
    return StoreDamaged("store_damaged", "The store is damaged: run kms-runtime sync to fetch everything anew.")


def _header(text: bytes) -> Header:
    try:
        document = orjson.loads(text)
        if document.pop("format") == FORMAT:
            header = built(Header, document)
            if header.revision >= 0 and _KEY_ID.fullmatch(header.key_id):
                return header
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    raise StoreDamaged("store_unknown", "The store is of another version of kms-runtime: run kms-runtime sync.")


def _opened(header: Header, key: bytes, values: Iterable[tuple[Path, int, bytes]]) -> list[bytes]:
    if len(key) != KEY_BYTES:
        raise damaged()
    try:
        return _bound(header).open_many(key, header.key_id, values)
    except SealBroken:
        pass
    raise damaged()


def _bound(header: Header) -> Bound:
    return Bound(header.account, header.atom, "stored")


def _index_path(header_digest: bytes) -> Path:
    return ("index", header_digest.hex())


def _credentials_path(header_digest: bytes) -> Path:
    return ("credentials", header_digest.hex())
