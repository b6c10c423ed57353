"""Opens a delivery at the hosted vault: log in, read the documents of wrapped keys, unwrap them, open the values.

In series there are three round trips whatever the number of secrets: login, documents, batches; each of the last two all
at once, beside the login and the new data key of the at-rest side. While batches are under way, values of those that came
back are opened already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from runtime import checking
from runtime.credentials import VaultLogin
from runtime.delivery import Delivery, Sealed
from runtime.errors import DeliveryRefused, listed
from runtime.hosted import DATAKEYS, INTRANSIT, log_in, vault_errors
from runtime.keys import AtRestKey, KeySource
from vaults.envelope import Bound, SealBroken, open_sealed
from vaults.manifest import Manifest, ManifestBroken, Path, decode, place
from vaults.transit import BATCH_ITEMS, DataKeysBroken, Vault, VaultRefused

THREADS: Final = 8
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery, opened: the manifest, the plaintexts of its values, and the data key for sealing them at rest."""

    manifest: Manifest
    values: Mapping[Path, bytes] = field(repr=False)
    at_rest: AtRestKey


def open_delivery(vault: Vault, login: VaultLogin, source: KeySource, delivery: Delivery) -> Opened:
    """Open everything delivered. Raises DeliveryRefused, VaultDown, VaultSaysNo, VaultUnfit.

    Whether the result is what the manifest lists is for runtime/checking.py; a value that is not listed is refused there
    before it is used for anything.
    """
    manifest_row = delivery.manifest
    if manifest_row is None:
        raise ValueError("nothing to open")
    opener = _Opener(delivery, manifest_row)
    with ThreadPoolExecutor(THREADS) as pool, vault_errors():
        at_rest = pool.submit(source.new_data_key)
        reader = log_in(vault, login)
        unwrap = partial(_unwrap, reader, delivery.environment)
        for batch in _beside(pool, unwrap, _batches(pool, reader, delivery, manifest_row)):
            opener.take(batch)
        return Opened(opener.manifest(), opener.values(), at_rest.result())


def _beside(pool: ThreadPoolExecutor, call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call with every item at once; yields the results as they come.

    The last one runs in this thread, on the connection it has already: most syncs are one document and one batch, and a
    thread with a new connection costs as much as the call.
    """
    others: list[Future[Result]] = []
    last: list[Item] = []
    for item in items:
        others += [pool.submit(call, one) for one in last]
        last = [item]
    for item in last:
        yield call(item)
    for other in as_completed(others):
        yield other.result()


def _batches(
    pool: ThreadPoolExecutor, reader: Vault, delivery: Delivery, manifest_row: Sealed
) -> Iterator[dict[str, str]]:
    """The wrapped keys that are wanted, {id: wrapped}, each once, in full batches as soon as documents give them."""
    wanted: dict[int, dict[str, None]] = {manifest_row.document: {manifest_row.data_key: None}}
    for _, data_key, document, _ in delivery.values.values():
        wanted.setdefault(document, {})[data_key] = None
    paths = [(document, f"{delivery.environment}/{document}") for document in wanted]
    batch: dict[str, str] = {}
    for document, entries in _beside(pool, partial(_read, reader), paths):
        for key_id in wanted[document]:
            if key_id in entries:
                batch[key_id] = entries[key_id]
                if len(batch) == BATCH_ITEMS:
                    yield batch
                    batch = {}
    if batch:
        yield batch


def _read(reader: Vault, where: tuple[int, str]) -> tuple[int, Mapping[str, str]]:
    document, path = where
    try:
        return document, reader.read_document(DATAKEYS, path)
    except VaultRefused as refusal:
        if refusal.status == 404:
            return document, {}  # its keys are found missing by name below
        raise


def _unwrap(reader: Vault, environment: str, batch: dict[str, str]) -> dict[str, bytes]:
    """The keys of a batch by id, without those that the vault does not open."""
    ids, wrapped = list(batch), list(batch.values())
    try:
        return dict(zip(ids, reader.unwrap_data_keys(INTRANSIT, environment, wrapped), strict=True))
    except DataKeysBroken as broken:
        positions = set(broken.positions)
    good = {key_id: text for number, (key_id, text) in enumerate(batch.items()) if number not in positions}
    with suppress(DataKeysBroken):  # broken while we looked: then none of the batch counts, and the next sync tells
        opened = reader.unwrap_data_keys(INTRANSIT, environment, list(good.values()))
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
        where = place(delivery.account, delivery.environment, delivery.revision, row.data_key)
        with suppress(SealBroken, ManifestBroken):
            return decode(open_sealed(key, row.sealed, where))
        return checking.mismatch("the manifest does not open")

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
            raise checking.mismatch(f"an encrypted value was changed or moved ({broken})")
        if len(good) < len(self._delivery.values):
            raise checking.keys_missing(self._named(path for path in self._delivery.values if path not in good))
        return good

    def _named(self, paths: Iterable[Path]) -> str:
        """Names for people, from the manifest; what it does not list has none."""
        wanted = set(paths)
        names = [checking.label(entry) for entry in self.manifest().entries if entry.path in wanted]
        return listed(names) if names else "one that is not listed"
