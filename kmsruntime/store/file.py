"""The store on disk: reading it while another run may replace it, replacing it with its key so that no crash parts them.

A wrapped encryption key never reaches the disk: it is unwrapped by its vault once and kept in this object for as long as
the store in use needs it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from kmscore.private_file import MOST_BYTES
from kmsruntime.disk import files
from kmsruntime.disk.home import Config, Home
from kmsruntime.errors import RuntimeProblem, StorageFailed, StoreDamaged
from kmsruntime.store import format as store_format
from kmsruntime.store.format import Front, Header, Store
from kmsruntime.store.index import Entries
from kmsruntime.store.keys import AtRestKey, KeyFile, KeySource

LOOKS: Final = 3


@dataclass(frozen=True, slots=True)
class StoreKey:
    """A data key that is ready to be used (its file, if it has one, is durable); used for one state of the store."""

    id: str
    key: AtRestKey


class StoreFile:
    """The store of one directory.

    `source` gives the vault whose key a header names. It is asked for only when the key's own file is missing, and once
    for a wrapped encryption key, which has no file.
    """

    def __init__(self, home: Home, config: Config, source: Callable[[Header], KeySource] | None = None) -> None:
        self.path = home.store
        self._keys = KeyFile(home.key_path(config))
        self._source = source
        self._memory: dict[str, bytes] = {}  # the wrapped encryption key of the store in use, by its id

    def signature(self) -> object:
        """Tells whether the file was replaced or touched; None when there is none."""
        return files.signature(self.path)

    def header(self) -> Header | None:
        """What the store says of itself, without its key; None without a store. Raises StoreDamaged, StorageFailed."""
        front = self._front()
        return None if front is None else front.header

    def read(self) -> Store | None:
        """The store, None when there is none. Raises StoreDamaged, StorageFailed, and the vault's errors.

        A sync may replace store, key and settings between our reads: then the second look finds all of them.
        """
        for look in range(LOOKS):
            content = files.read_private(self.path)
            if content is None:
                return None
            try:
                found = self._read_as(content, with_vault=look > 0)
            except RuntimeProblem:
                if look + 1 == LOOKS or files.read_private(self.path) == content:
                    raise  # else it is the trouble of a store that is gone
                continue
            if found is not None:
                return found
        raise store_format.damaged()

    def _read_as(self, content: bytes, *, with_vault: bool) -> Store | None:
        """The store; None when the key's file is missing and its vault is not to be asked, or the store was replaced."""
        front = store_format.read_front(content)
        key = self._at_hand(front.header)
        if key is not None:
            return front.open(key)
        if with_vault and files.read_private(self.path) == content:
            return front.open(self._recovered(front.header))
        return None

    def credentials(self) -> bytes:
        """What a memory_only store holds of the environment's half, although its values may be damaged.

        Raises StoreDamaged, StorageFailed, and the vault's errors.
        """
        front = self._front()
        if front is None or not front.header.memory_only:
            raise store_format.damaged()
        key = self._at_hand(front.header)
        assert key is not None
        return front.credentials(key)

    def _front(self) -> Front | None:
        content = files.read_private(self.path)
        return None if content is None else store_format.read_front(content)

    def _at_hand(self, header: Header) -> bytes | None:
        """The key, None when its file is missing; a wrapped encryption key is unwrapped by its vault."""
        if not header.key_id:
            return b""
        return self._unwrapped(header) if header.memory_only else self._keys.read(header.key_id)

    def is_at_hand(self, header: Header) -> bool:
        """Whether the store can be opened without its vault, as far as is known without looking for a key's file."""
        return not header.memory_only or header.key_id in self._memory

    def open_with(self, source: KeySource) -> None:
        """Take the wrapped encryption key of the store in use from another source than the one its settings name.

        Raises StoreDamaged when that gives another key, StorageFailed, and the vault's errors.
        """
        front = self._front()
        if front is None or not front.header.memory_only:
            raise store_format.damaged()
        key = source.unwrap(front.header.wrapped)
        front.credentials(key)  # another key is not kept
        self._memory = {front.header.key_id: key}

    def _unwrapped(self, header: Header) -> bytes:
        if header.key_id not in self._memory:
            if self._source is None:
                raise StoreDamaged(
                    "key_wrapped", "The store has a wrapped encryption key, which only the customer's vault opens."
                )
            self._memory = {header.key_id: self._source(header).unwrap(header.wrapped)}
        return self._memory[header.key_id]

    def _recovered(self, header: Header) -> bytes:
        """The key from the vault, when its file was lost (a tmpfs after a restart); written again for the next time."""
        missing = StoreDamaged(
            "key_missing",
            f"{self._keys.of(header.key_id)} is missing or damaged: run kms-runtime sync to fetch everything anew.",
        )
        if self._source is None or not header.wrapped:
            raise missing
        try:
            key = self._source(header).unwrap(header.wrapped)
        except RuntimeProblem as problem:
            if problem.kind == "customer_vault_refused":  # a policy without decrypt: right for a key that has a file
                raise missing from None
            raise type(problem)(
                problem.code,
                f"{missing.sentence.partition(':')[0]} and the vault does not open it again. {problem.sentence}",
            ) from None
        with suppress(StorageFailed):  # the vault is asked again the next time
            self._keys.write(header.key_id, key)
        return key

    def prepare(self, key: AtRestKey) -> StoreKey:
        """Give a new data key an id and make its file durable, before there is a store that needs it.

        Once per sync, and early: its fsync is over by the time the values are open. Raises StorageFailed.
        """
        prepared = StoreKey(str(uuid.uuid4()), key)
        if not key.memory_only:
            self._keys.write(prepared.id, key.plaintext)
        return prepared

    def in_use(self, header: Header) -> StoreKey:
        """The wrapped encryption key of the store in use, to seal it once more. Raises the vault's errors."""
        key = AtRestKey(
            self._unwrapped(header), header.wrapped, header.source, header.key_name, header.key_version, True
        )
        return StoreKey(header.key_id, key)

    def forget_unused(self, header: Header) -> None:
        """Remove the files of prepared keys that no store came to need; `header` is of the store in use."""
        self._keys.keep_only("" if header.memory_only else header.key_id)

    def write(self, header: Header, entries: Entries, prepared: StoreKey, credentials: bytes = b"") -> Header:
        """Seal everything under a prepared key and replace the store. Returns the header as written. Raises StorageFailed.

        credentials: of the environment's half, with a memory_only key and only then.
        """
        key = prepared.key
        sealed = replace(
            header,
            source=key.source,
            key_name=key.name,
            key_version=key.version,
            key_id=prepared.id,
            wrapped=key.wrapped,
            sealed_at=now(),
            memory_only=key.memory_only,
        )
        parts = store_format.encode(sealed, key.plaintext, entries, credentials)
        size = sum(map(len, parts))
        if size > MOST_BYTES:  # what could not be read again
            raise StorageFailed(
                "store_too_large",
                f"What the environment holds makes a store of {size >> 20} MiB, and {MOST_BYTES >> 20} is the most: "
                "take values out of it in the portal. This container goes on with what it has.",
            )
        files.write_durably(self.path, parts)
        self._memory = {sealed.key_id: key.plaintext} if key.memory_only else {}
        self.forget_unused(sealed)
        return sealed

    def write_empty(self, header: Header) -> Header:
        """Replace the store by one that holds nothing and has no key; the old key's file goes too."""
        empty = replace(header, key_id="", wrapped="", key_name="", key_version=0, sealed_at="", memory_only=False)
        files.write_durably(self.path, store_format.encode(empty, b"", ()))
        self._memory = {}
        self._keys.keep_only("")
        return empty


def now() -> str:
    """This machine's clock, for people: UTC in ISO 8601, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
