"""The signed list of what an environment holds: web's word, made from the list before it and each save's changes.

The rows beside it are what is delivered; by the list the next save and every page tell what was saved from what was written, put
back or taken away past the portal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from kmscore.sealed.manifest import digest

Path = tuple[str, ...]


class Listed(NamedTuple):
    """One thing that is held. at: when it was saved, in seconds since 1970. digest: SHA-256 of a plain value in hex, the id of a
    sealed value's data key (each save has its own)."""

    form: str
    revision: int
    at: int
    digest: str


def listed_row(form: str, revision: int, at: int, plain: str, data_key: object) -> Listed:
    """As a row says it."""
    return Listed(form, revision, at, str(data_key) if form == "sealed" else digest(plain))


@dataclass(frozen=True, slots=True)
class Listing:
    """rows: what is held. sealed: every path that ever was a secret; it stays one. restored: how often it was published anew
    after a restore. by: the id of who saved it, whose address may be another by now."""

    rows: Mapping[Path, Listed]
    sealed: frozenset[Path] = frozenset()
    restored: int = 0
    by: Mapping[Path, str] = field(default_factory=dict)

    def encode(self) -> str:
        """JSON: {"rows": [[path, form, revision, at, digest, by], …], "sealed": [path, …], "restored"}."""
        rows = [[path, *row, self.by.get(path, "")] for path, row in self.rows.items()]
        return orjson.dumps({"rows": rows, "sealed": sorted(self.sealed), "restored": self.restored}).decode()


NOTHING = Listing({})


def decode(text: str) -> Listing:
    document = orjson.loads(text)
    rows, by = dict[Path, Listed](), dict[Path, str]()
    for path, *row, name in document["rows"]:
        key = tuple(path)
        rows[key], by[key] = Listed(*row), name
    return Listing(rows, frozenset(tuple(path) for path in document["sealed"]), document["restored"], by)
