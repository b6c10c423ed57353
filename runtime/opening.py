"""Opens a delivery at the hosted vault: log in, read the documents of wrapped keys, unwrap them, open the values.

In series there are three round trips whatever the number of secrets: login, documents, batches; each of the last two all
at once, beside the login and the new data key of the at-rest side. While batches are under way, values of those that came
back are opened already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from runtime import checking
from runtime.credentials import VaultLogin
from runtime.delivery import Delivery, Sealed
from runtime.errors import DeliveryRefused, listed
from runtime.hosted import DATAKEYS, INTRANSIT, log_in, vault_errors
from runtime.keys import AtRestKey, KeySource
from vaults.envelope import Bound, SealBroken, open_sealed
from vaults.manifest import Manifest, ManifestBroken, Path, decode, place
from vaults.transit import DataKeysBroken, Vault, VaultRefused, chunks

THREADS: Final = 8


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
    with ThreadPoolExecutor(THREADS) as pool, vault_errors():
        at_rest = pool.submit(source.new_data_key)
        reader = log_in(vault, login)
        wrapped, wanted = _wrapped_keys(pool, reader, delivery, manifest_row)
        opener = _Opener(delivery, manifest_row)
        batches = {
            pool.submit(_unwrap, reader, delivery.environment, [wrapped[key] for key in chunk]): chunk
            for chunk in chunks(wanted)
        }
        for batch in as_completed(batches):
            for key_id, key in zip(batches[batch], batch.result(), strict=True):
                opener.take(key_id, key)
        return Opened(opener.manifest(), opener.values(), at_rest.result())


def _wrapped_keys(
    pool: ThreadPoolExecutor, reader: Vault, delivery: Delivery, manifest_row: Sealed
) -> tuple[dict[str, str], list[str]]:
    """The wrapped keys of the documents named, and which of them are wanted (in the delivery's order, each once)."""
    documents = {row.document for row in delivery.values.values()} | {manifest_row.document}
    reads: list[Future[Mapping[str, str]]] = [
        pool.submit(_read, reader, f"{delivery.environment}/{document}") for document in sorted(documents)
    ]
    wrapped: dict[str, str] = {}
    for read in reads:
        wrapped.update(read.result())
    wanted = dict.fromkeys([manifest_row.data_key, *(row.data_key for row in delivery.values.values())])
    return wrapped, [key for key in wanted if key in wrapped]


def _read(reader: Vault, path: str) -> Mapping[str, str]:
    try:
        return reader.read_document(DATAKEYS, path)
    except VaultRefused as refusal:
        if refusal.status == 404:
            return {}  # its keys are found missing by name below
        raise


def _unwrap(reader: Vault, environment: str, wrapped: list[str]) -> list[bytes | None]:
    """None for each key that the vault does not open."""
    try:
        return list(reader.unwrap_data_keys(INTRANSIT, environment, wrapped))
    except DataKeysBroken as broken:
        positions = set(broken.positions)
    good = [text for position, text in enumerate(wrapped) if position not in positions]
    with suppress(DataKeysBroken):  # broken while we looked: then none of the batch counts, and the next sync tells
        opened = iter(reader.unwrap_data_keys(INTRANSIT, environment, good))
        return [None if position in positions else next(opened) for position in range(len(wrapped))]
    return [None] * len(wrapped)


class _Opener:
    """Opens values as their data keys come in, and says by name what could not be opened."""

    def __init__(self, delivery: Delivery, manifest_row: Sealed) -> None:
        self._delivery, self._manifest_row = delivery, manifest_row
        self._bound = Bound(delivery.account, delivery.environment, "extension")
        self._by_key: dict[str, list[tuple[Path, int, bytes]]] = {}
        for path, row in delivery.values.items():
            self._by_key.setdefault(row.data_key, []).append((path, row.revision, row.sealed))
        self._manifest_key: bytes | None = None
        self._opened: dict[Path, bytes] = {}
        self._broken: list[Path] = []

    def take(self, key_id: str, key: bytes | None) -> None:
        if key is None:
            return  # its values stay unopened, and are told by name when everything is in
        if key_id == self._manifest_row.data_key:
            self._manifest_key = key
        values = self._by_key.get(key_id, ())
        try:
            plaintexts = self._bound.open_many(key, key_id, values)
        except SealBroken:
            self._broken += [path for path, _, _ in values]
            return
        self._opened.update(zip((path for path, _, _ in values), plaintexts, strict=True))

    def manifest(self) -> Manifest:
        """Raises DeliveryRefused when it cannot be opened or is not one."""
        delivery, row = self._delivery, self._manifest_row
        if self._manifest_key is None:
            raise DeliveryRefused(
                "data_key_missing",
                "The vault has no usable key for the list of this environment's values: save any value in the portal again.",
            )
        try:
            where = place(delivery.account, delivery.environment, delivery.revision, row.data_key)
            return decode(open_sealed(self._manifest_key, row.sealed, where))
        except (SealBroken, ManifestBroken):
            pass
        raise checking.mismatch("the manifest does not open")

    def values(self) -> Mapping[Path, bytes]:
        """All plaintexts. Raises DeliveryRefused naming what was moved or has lost its key."""
        if self._broken:
            raise checking.mismatch(f"an encrypted value was changed or moved ({self._named(self._broken)})")
        lost = [path for path in self._delivery.values if path not in self._opened]
        if lost:
            raise checking.keys_missing(self._named(lost))
        return self._opened

    def _named(self, paths: Iterable[Path]) -> str:
        """Names for people, from the manifest; what it does not list has none."""
        wanted = set(paths)
        names = [checking.label(entry) for entry in self.manifest().entries if entry.path in wanted]
        return listed(names) if names else "one that is not listed"
