"""The store on disk: reading it while another run may replace it, replacing it with its key so that no crash parts them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from runtime import files, store
from runtime.errors import RuntimeProblem, StoreDamaged
from runtime.home import Config, Home
from runtime.index import Entries
from runtime.keys import AtRestKey, KeyFile, KeySource
from runtime.store import Header, Store


@dataclass(frozen=True, slots=True)
class StoreKey:
    """A data key whose file is durable; used for one state of the store."""

    id: str
    key: AtRestKey


class StoreFile:
    """The store of one directory. `source` is asked for only when the key's own file is missing."""

    def __init__(self, home: Home, config: Config, source: Callable[[], KeySource] | None = None) -> None:
        self.path = home.store
        self._keys = KeyFile(home.key_path(config))
        self._source = source

    def signature(self) -> object:
        """Tells whether the file was replaced or touched; None when there is none."""
        with suppress(OSError):
            found = self.path.stat()
            return (found.st_ino, found.st_size, found.st_mtime_ns)
        return None

    def header(self) -> Header | None:
        """What the store says of itself, without its key; None without a store. Raises StoreDamaged, StorageFailed."""
        content = files.read_private(self.path)
        return None if content is None else store.read_front(content).header

    def read(self) -> Store | None:
        """The store, None when there is none. Raises StoreDamaged, StorageFailed, and the vault's errors.

        A sync may replace store and key between our two reads: then the second look finds both.
        """
        for look in range(3):
            content = files.read_private(self.path)
            if content is None:
                return None
            front = store.read_front(content)
            key = self._keys.read(front.header.key_id) if front.header.key_id else b""
            if key is not None:
                return front.open(key)
            if look and files.read_private(self.path) == content:
                return front.open(self._recovered(front.header))
        raise store.damaged()

    def _recovered(self, header: Header) -> bytes:
        """The key from the vault, when its file was lost (a tmpfs after a restart); written again for the next time."""
        missing = StoreDamaged(
            "key_missing", f"{self._keys.of(header.key_id)} is missing: run kms-runtime sync to fetch everything anew."
        )
        if self._source is None or not header.wrapped:
            raise missing
        try:
            key = self._source().unwrap(header.wrapped)
        except RuntimeProblem as problem:
            raise type(problem)(
                problem.code,
                f"{missing.sentence.partition(':')[0]} and the vault does not open it again. {problem.sentence}",
            ) from None
        self._keys.write(header.key_id, key)
        return key

    def prepare(self, key: AtRestKey) -> StoreKey:
        """Give a new data key an id and make its file durable, before there is a store that needs it.

        Once per sync, and early: its fsync is over by the time the values are open. Raises StorageFailed.
        """
        prepared = StoreKey(str(uuid.uuid4()), key)
        self._keys.write(prepared.id, key.plaintext)
        return prepared

    def forget_unused(self, header: Header) -> None:
        """Remove the files of prepared keys that no store came to need; `header` is of the store in use."""
        self._keys.keep_only(header.key_id)

    def write(self, header: Header, entries: Entries, prepared: StoreKey) -> Header:
        """Seal everything under a prepared key and replace the store. Returns the header as written. Raises StorageFailed."""
        key = prepared.key
        sealed = replace(
            header,
            source=key.source,
            key_name=key.name,
            key_version=key.version,
            key_id=prepared.id,
            wrapped=key.wrapped,
            sealed_at=now(),
        )
        files.write_durably(self.path, store.encode(sealed, key.plaintext, entries))
        self._keys.keep_only(sealed.key_id)
        return sealed

    def write_empty(self, header: Header) -> Header:
        """Replace the store by one that holds nothing and has no key; the old key's file goes too."""
        empty = replace(header, key_id="", wrapped="", key_name="", key_version=0, sealed_at="")
        files.write_durably(self.path, store.encode(empty, b"", ()))
        self._keys.keep_only("")
        return empty


def now() -> str:
    """This machine's clock, for people: UTC in ISO 8601, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
