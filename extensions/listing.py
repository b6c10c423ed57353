"""The signed list of what an environment holds: web's word, made from the list before it and each save's changes.

The rows beside it are what is delivered; by the list the next save and every page tell what was saved from what was written, put
back or taken away past the portal.
"""

from collections.abc import Mapping
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


def encode(rows: Mapping[Path, Listed]) -> str:
    """JSON: [[path, form, revision, at, digest], …]."""
    return orjson.dumps([[path, *row] for path, row in rows.items()]).decode()


def decode(text: str) -> dict[Path, Listed]:
    return {tuple(path): Listed(*row) for path, *row in orjson.loads(text)}
