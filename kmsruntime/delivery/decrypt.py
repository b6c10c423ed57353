"""Opens a delivery at the hosted vault: log in, read the documents of wrapped keys, unwrap them, open the values.

In series there are three round trips whatever the number of secrets: login, documents, batches; each of the last two all
at once, beside the login and the new data key of the at-rest side. While batches are under way, values of those that came
back are opened already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from kmscore.sealed.envelope import Bound, SealBroken, open_sealed
from kmscore.sealed.manifest import Manifest, ManifestBroken, Path, decode, manifest_place
from kmscore.vaultclient.answers import DataKeysBroken, VaultRefused
from kmscore.vaultclient.client import BATCH_ITEMS, Vault
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from kmsruntime.delivery import verify
from kmsruntime.delivery.helpers import Helpers
from kmsruntime.delivery.read import Delivery, Sealed
from kmsruntime.disk.credentials import VaultLogin
from kmsruntime.errors import DeliveryRefused, listed
from kmsruntime.remote.hosted_vault import log_in, vault_errors
from kmsruntime.store.file import StoreKey

THREADS: Final = 8
Document = tuple[int, Mapping[str, str]]  # its number and {data key id: wrapped data key}


@dataclass(frozen=True, slots=True)
class Decrypted:
    """A delivery, opened: the manifest, the plaintexts of its values, and the data key for sealing them at rest."""

    manifest: Manifest
    values: Mapping[Path, bytes] = field(repr=False)
    at_rest: StoreKey


def open_delivery(
    vault: Vault, login: VaultLogin, at_rest_key: Callable[[], StoreKey], delivery: Delivery
) -> Decrypted:
    """Open everything delivered. Raises DeliveryRefused, the hosted vault's errors, and what `at_rest_key` raises.

    at_rest_key makes the new data key and its file; it is called at once, beside everything else.

    Whether the result is what the manifest lists is for kmsruntime/delivery/verify.py; a value that is not listed is refused there
    before it is used for anything.
    """
    manifest_row = delivery.manifest
    if manifest_row is None:
        raise ValueError("nothing to open")
    opener = _Opener(delivery, manifest_row)
    with Helpers(THREADS) as pool, vault_errors():
        at_rest = pool.submit(at_rest_key)
        reader = log_in(vault, login)
        unwrap = partial(_unwrap, reader, delivery.environment)
        full = []
        for batch in _batches(pool, reader, delivery, manifest_row):
            if len(batch) == BATCH_ITEMS:
                full.append(pool.submit(unwrap, batch))
            else:  # the last one, and for most syncs the only one: in this thread, on the connection it has already
                opener.take(unwrap(batch))
        for unwrapped in as_completed(full):
            opener.take(unwrapped.result())
        return Decrypted(opener.manifest(), opener.values(), at_rest.result())


def _batches(pool: Helpers, reader: Vault, delivery: Delivery, manifest_row: Sealed) -> Iterator[dict[str, str]]:
    """The wrapped keys that are wanted, {id: wrapped}, each once, in full batches as soon as documents give them."""
    wanted: dict[int, dict[str, None]] = {manifest_row.document: {manifest_row.data_key: None}}
    for _, data_key, document, _ in delivery.values.values():
        wanted.setdefault(document, {})[data_key] = None
    batch: dict[str, str] = {}
    for document, entries in _documents(pool, partial(_read, reader, delivery.environment), list(wanted)):
        for key_id in wanted[document]:
            if key_id in entries:
                batch[key_id] = entries[key_id]
                if len(batch) == BATCH_ITEMS:
                    yield batch
                    batch = {}
    if batch:
        yield batch


def _documents(pool: Helpers, read: Callable[[int], Document], numbers: list[int]) -> Iterator[Document]:
    """All documents at once, as they come. One is read in this thread: another one and a new connection cost as much."""
    others = [pool.submit(read, number) for number in numbers[1:]]
    yield read(numbers[0])
    for other in as_completed(others):
        yield other.result()


def _read(reader: Vault, environment: str, document: int) -> Document:
    try:
        return document, reader.read_document(OF_ENVIRONMENTS.documents, f"{environment}/{document}")
    except VaultRefused as refusal:
        if refusal.status == 404:
            return document, {}  # its keys are found missing by name below
        raise


def _unwrap(reader: Vault, environment: str, batch: dict[str, str]) -> dict[str, bytes]:
    """The keys of a batch by id, without those that the vault does not open."""
    ids, wrapped = list(batch), list(batch.values())
    try:
        return dict(zip(ids, reader.unwrap_data_keys(OF_ENVIRONMENTS.transit, environment, wrapped), strict=True))
    except DataKeysBroken as broken:
        positions = set(broken.positions)
    good = {key_id: text for number, (key_id, text) in enumerate(batch.items()) if number not in positions}
    with suppress(DataKeysBroken):  # broken while we looked: then none of the batch counts, and the next sync tells
        opened = reader.unwrap_data_keys(OF_ENVIRONMENTS.transit, environment, list(good.values()))
        return dict(zip(good, opened, strict=True))
    return {}


class _Opener:
    """Opens values as their data keys come in, and says by name what could not be opened."""

    def __init__(self, delivery: Delivery, manifest_row: Sealed) -> None:
        self._delivery, self._manifest_row = delivery, manifest_row
        self._bound = Bound(delivery.account, delivery.environment, "extension")
        self._by_key: dict[str, list[Path]] = {}
        for path, row in delivery.values.items():
            self._by_key.setdefault(row.data_key, []).append(path)
        self._manifest: Manifest | DeliveryRefused = DeliveryRefused(
            "data_key_missing",
            "The vault has no usable key for the list of this environment's values: save any value in the portal again.",
        )
        self._opened: dict[Path, bytes | None] = {}

    def take(self, keys: Mapping[str, bytes]) -> None:
        """Open what these data keys {id: key} open."""
        values, by_key = self._delivery.values, self._by_key
        paths = [(path, key_id, key) for key_id, key in keys.items() for path in by_key.get(key_id, ())]
        rows = ((key, key_id, path, values[path].revision, values[path].sealed) for path, key_id, key in paths)
        self._opened.update(zip((path for path, _, _ in paths), self._bound.open_each(rows), strict=True))
        if self._manifest_row.data_key in keys:
            self._manifest = self._opened_manifest(keys[self._manifest_row.data_key])

    def _opened_manifest(self, key: bytes) -> Manifest | DeliveryRefused:
        delivery, row = self._delivery, self._manifest_row
        where = manifest_place(delivery.account, delivery.environment, delivery.revision, row.data_key)
        with suppress(SealBroken, ManifestBroken):
            return decode(open_sealed(key, row.sealed, where))
        return verify.mismatch("the manifest does not open")

    def manifest(self) -> Manifest:
        """Raises DeliveryRefused when it could not be opened or is not one."""
        if isinstance(self._manifest, DeliveryRefused):
            raise self._manifest
        return self._manifest

    def values(self) -> Mapping[Path, bytes]:
        """All plaintexts. Raises DeliveryRefused naming what was moved or has lost its key."""
        good = {path: value for path, value in self._opened.items() if value is not None}
        if len(good) < len(self._opened):
            broken = self._named(path for path in self._opened if path not in good)
            raise verify.mismatch(f"an encrypted value was changed or moved ({broken})")
        if len(good) < len(self._delivery.values):
            raise verify.keys_missing(self._named(path for path in self._delivery.values if path not in good))
        return good

    def _named(self, paths: Iterable[Path]) -> str:
        """Names for people, from the manifest; what it does not list has none."""
        wanted = set(paths)
        names = [verify.label(entry) for entry in self.manifest().entries if entry.path in wanted]
        return listed(names) if names else "one that is not listed"
