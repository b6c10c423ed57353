"""Whether a delivery is true: the manifest against what was delivered and what is held (DESIGN.md §1, I8).

Pure. The manifest was sealed with the environment's keys, so it is the only thing believed: which entries there are, of
which form, with which names and revisions. Whatever does not fit refuses the delivery as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from kmscore.sealed.manifest import Entry, Manifest, Path
from kmsruntime.delivery.read import Delivery
from kmsruntime.errors import DeliveryRefused, RevisionLower
from kmsruntime.store.index import Value

# What was held at a path: form, revision, digest and value.
Known = Mapping[Path, tuple[str, int, str, Value]]

MISMATCH: Final = "manifest_mismatch"
_FORMS: Final = ("sealed", "plain", "component", "missing", "lost")
_SHAPES: Final = {"connection": 3, "property": 2}


def check_revision(delivery: Delivery, seen: int) -> None:
    """Refuse a revision below the highest this container ever took in this environment. Raises RevisionLower."""
    if delivery.revision < seen:
        raise RevisionLower(
            "revision_lower",
            f"The portal delivers revision {delivery.revision}, older than revision {seen} seen before: it was rolled back. "
            "After a restore the operator announced, run kms-runtime sync --accept-restore.",
        )


def check_empty(delivery: Delivery) -> None:
    """Nothing may come without a manifest, and a manifest only with a revision. Raises DeliveryRefused."""
    if (delivery.manifest is None) != (delivery.revision == 0):
        raise mismatch("its revision and its manifest do not belong together")
    if delivery.manifest is None and (delivery.values or delivery.plain):
        raise mismatch("it has values and no manifest")


def check_manifest(manifest: Manifest, delivery: Delivery) -> None:
    """The manifest is of this environment and revision, and well-formed. Raises DeliveryRefused."""
    if manifest.environment != delivery.environment or manifest.revision != delivery.revision:
        raise mismatch("the manifest is of another environment or revision")
    highest, seen = manifest.revision, set[Path]()
    for form, path, name, revision, digest in manifest.entries:
        if not (type(revision) is int and type(name) is type(digest) is str and set(map(type, path)) == {str}):
            raise mismatch("the manifest is not of its form")
        if len(path) != _SHAPES.get(path[0]) or path in seen:
            raise mismatch("the manifest lists something twice, or of an unknown kind")
        if not 0 < revision <= highest or form not in _FORMS:
            raise mismatch("the manifest lists a value of another revision or form")
        seen.add(path)


def check_sealed(manifest: Manifest, held: Known) -> None:
    """What ever was encrypted, by the manifest or by what is held, is never taken in the clear. Raises DeliveryRefused."""
    for entry in manifest.entries:
        known = held.get(entry.path)
        if entry.form == "plain" and (entry.path in manifest.sealed or (known is not None and known[0] == "sealed")):
            raise mismatch(_about(entry, "a value that was encrypted once came in the clear"))


def check_delivered(manifest: Manifest, delivery: Delivery) -> None:
    """Everything delivered is listed, in its very form and revision, with its very digest. Raises DeliveryRefused."""
    listing = {entry.path: entry for entry in manifest.entries}
    for path, sealed in delivery.values.items():
        entry = listing.get(path)
        if entry is None or (entry.form, entry.revision, entry.digest) != ("sealed", sealed.revision, sealed.data_key):
            raise mismatch(_about(entry, "an encrypted value was added, moved or rolled back"))
    for path, (revision, value) in delivery.plain.items():
        entry = listing.get(path)
        if entry is None or entry.form != "plain" or entry.revision != revision or _digest(value) != entry.digest:
            raise mismatch(_about(entry, "a plain value was added, changed, moved or rolled back"))


def assemble(
    manifest: Manifest, delivery: Delivery, opened: Mapping[Path, bytes], held: Known
) -> list[tuple[Entry, Value]]:
    """Every entry of the manifest with its value: delivered, or held unchanged. Raises DeliveryRefused when one is missing.

    opened: the plaintexts of delivery.values.
    """
    entries: list[tuple[Entry, Value]] = []
    for entry in manifest.entries:
        if entry.form in ("component", "missing"):  # an encrypted field has no component value: it is missing
            entries.append((entry._replace(form="missing"), None))
        elif entry.form == "lost":
            entries.append(_kept(entry, held))
        elif entry.form == "sealed" and entry.path in opened:
            entries.append((entry, opened[entry.path]))
        elif entry.form == "plain" and entry.path in delivery.plain:
            entries.append((entry, delivery.plain[entry.path][1]))
        else:
            entries.append((entry, _held(entry, held)))
    return entries


def _kept(entry: Entry, held: Known) -> tuple[Entry, Value]:
    """A value that the portal's vault has lost: this container keeps it when it holds that very one."""
    form, revision, digest, value = held.get(entry.path, ("", 0, "", None))
    if (form, revision, digest) == ("sealed", entry.revision, entry.digest):
        return entry._replace(form="sealed"), value
    return entry, None


def _held(entry: Entry, held: Known) -> Value:
    form, revision, digest, value = held.get(entry.path, ("", 0, "", None))
    if (form, revision, digest) != (entry.form, entry.revision, entry.digest) or value is None:
        raise mismatch(_about(entry, "a value was dropped"))
    if isinstance(value, str) and _digest(value) != entry.digest:
        raise mismatch(_about(entry, "a plain value was changed"))
    return value


def label(entry: Entry) -> str:
    """What people call an entry: "Orders/password", "property/region"."""
    return f"{entry.name}/{entry.path[-1]}" if entry.path[0] == "connection" else f"property/{entry.path[-1]}"


def keys_missing(names: str) -> DeliveryRefused:
    """Values whose data keys the vault does not hold (any more), or does not open."""
    return DeliveryRefused(
        "data_key_missing", f"The vault has no usable key for {names}: set it again in the portal. The store was kept."
    )


def mismatch(what: str) -> DeliveryRefused:
    return DeliveryRefused(
        MISMATCH,
        f"What the portal delivered was tampered with or damaged: {what}. The store was kept; tell the portal's operator.",
    )


def _about(entry: Entry | None, what: str) -> str:
    return what if entry is None else f"{what} ({label(entry)})"


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
