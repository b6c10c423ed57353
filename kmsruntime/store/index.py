"""The list inside a store: what it holds, in columns.

Pure. Columns and not rows, because 10,000 rows are 20,000 small lists to make and to walk at every start: a third of it.

    heads     [[a path without its last part, name], ...], each once
    head      the number of each entry's head             last      the last part of its path
    form      one letter each: s(ealed), p(lain), m(issing), l(ost)       revision, digest
    plain     the value of a plain entry, else ""         size      bytes of the sealed value, else 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from kmscore.sealed.manifest import Entry, Form, Path

Value = bytes | str | None
Entries = Sequence[tuple[Entry, Value]]

_LETTER: Final[dict[str, str]] = {"sealed": "s", "plain": "p", "missing": "m", "lost": "l"}
# c: how a missing value was written while an encrypted field could be set to "use the component's value".
_FORM: Final[dict[str, Form]] = {"s": "sealed", "p": "plain", "m": "missing", "c": "missing", "l": "lost"}


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One thing the environment holds. plain: the value of a plain entry. start, size: where the sealed value is."""

    form: Form
    path: Path
    name: str
    revision: int
    digest: str
    plain: str = field(repr=False)
    start: int
    size: int


class Index:
    """An index as read; of a store that holds nothing without `columns`."""

    def __init__(self, columns: dict[str, Any] | None = None) -> None:
        self._columns = columns or {
            name: [] for name in ("heads", "head", "last", "form", "revision", "digest", "plain", "size")
        }
        self._heads: list[tuple[Path, str]] = [(tuple(path), name) for path, name in self._columns["heads"]]

    def __len__(self) -> int:
        return len(self._columns["last"])

    @property
    def size(self) -> int:
        """Bytes of all sealed values."""
        return sum(self._columns["size"])

    @property
    def sealed(self) -> int:
        """How many entries are sealed."""
        return sum(letter == "s" for letter in self._columns["form"])

    @property
    def missing(self) -> int:
        """How many entries have no value here: not entered, or to be entered again."""
        return sum(letter not in "sp" for letter in self._columns["form"])

    def __iter__(self) -> Iterator[IndexEntry]:
        at, heads = 0, self._heads
        column = self._columns
        rows = zip(
            *(column[name] for name in ("head", "last", "form", "revision", "digest", "plain", "size")), strict=True
        )
        for head, last, letter, revision, digest, plain, size in rows:
            path, name = heads[head]
            yield IndexEntry(_FORM[letter], (*path, last), name, revision, digest, plain, at, size)
            at += size

    def sealed_values(self, environment: str, body: bytes) -> Iterator[tuple[Path, int, bytes]]:
        """(path within the store, revision, sealed value) of each sealed entry, cut out of the store's body."""
        at, heads, column = 0, [(environment, *path) for path, _ in self._heads], self._columns
        for head, last, letter, revision, size in zip(
            column["head"], column["last"], column["form"], column["revision"], column["size"], strict=True
        ):
            if letter == "s":
                yield (*heads[head], last), revision, body[at : at + size]
                at += size


def encode(entries: Entries, sizes: Sequence[int]) -> bytes:
    """sizes: the bytes of the sealed values, in the order of the sealed entries."""
    heads: dict[tuple[Path, str], int] = {}
    left = iter(sizes)
    numbers = [heads.setdefault((entry.path[:-1], entry.name), len(heads)) for entry, _ in entries]
    return orjson.dumps(
        {
            "heads": [list(head) for head in heads],
            "head": numbers,
            "last": [entry.path[-1] for entry, _ in entries],
            "form": "".join([_LETTER[entry.form] for entry, _ in entries]),
            "revision": [entry.revision for entry, _ in entries],
            "digest": [entry.digest for entry, _ in entries],
            "plain": [value if isinstance(value, str) else "" for _, value in entries],
            "size": [next(left) if isinstance(value, bytes) else 0 for _, value in entries],
        }
    )


def decode(text: bytes) -> Index:
    """The text was sealed with the store's key, so it is what `encode` made."""
    return Index(orjson.loads(text))
