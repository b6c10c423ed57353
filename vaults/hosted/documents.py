"""A recipient's documents of wrapped data keys, one after the other: one at a time is in memory, none reaches the database."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from kmscore.vaultclient.answers import DataKeysBroken
from kmscore.vaultclient.client import chunks
from vaults.hosted import calls
from vaults.models import Recipient

Entries = dict[str, str]  # {data key id: wrapped data key}
_VERSION = re.compile(r"vault:v([0-9]{1,9}):")


def read_all(recipient: Recipient, last: int) -> Iterator[tuple[int, Entries]]:
    """(number, entries) of every document there is. last: the highest number that is known of.

    One below it may be missing. Those above it are found too: a database may have been restored from an older day.
    """
    for number in count():
        entries = calls.read_document(recipient, number)
        if entries is not None:
            yield number, entries
        elif number >= last:
            return


def older_than(entries: Mapping[str, str], version: int) -> Entries:
    """The entries that an earlier version of the in-transit key wrapped, or that look like nothing it made."""
    return {key: wrapped for key, wrapped in entries.items() if version_of(wrapped) < version}


def batches(entries: Mapping[str, str]) -> Iterator[Entries]:
    """As many at once as the vault takes in one call."""
    return (dict(batch) for batch in chunks(list(entries.items())))


def version_of(wrapped: object) -> int:
    """Of the key that wrapped it: "vault:v3:…" is 3; 0 for anything else."""
    begins = _VERSION.match(wrapped) if isinstance(wrapped, str) else None
    return int(begins[1]) if begins else 0


def rewrap(recipient: Recipient, number: int, entries: Entries, still_ours: Callable[[], object]) -> list[str]:
    """Rewrap a batch under the newest version and put it back. Returns the ids of those the vault could not rewrap.

    still_ours: asked between the two; a worker that slept through its lease must not put an old version over a newer one.
    A document that is gone by then (its recipient was shredded) stays gone.
    """
    whole = {key: wrapped for key, wrapped in entries.items() if isinstance(wrapped, str)}
    renewed = _rewrapped(recipient, whole)
    if renewed:
        still_ours()
        calls.patch_document(recipient, number, renewed)
    return [key for key in entries if key not in renewed]


def _rewrapped(recipient: Recipient, entries: Entries) -> Entries:
    try:
        return dict(zip(entries, calls.rewrap(recipient, list(entries.values())), strict=True))
    except DataKeysBroken as broken:
        positions = set(broken.positions)
    rest = {key: wrapped for at, (key, wrapped) in enumerate(entries.items()) if at not in positions}
    return _rewrapped(recipient, rest) if rest else {}
