"""Sequences: parts that are authenticated together, each behind its length, so that no two sequences share their bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_LENGTH_BYTES: Final = 4
_LENGTHS: Final = [length.to_bytes(_LENGTH_BYTES, "big") for length in range(256)]


class SequenceBroken(Exception):
    """Not a sequence, or not one of that many parts."""


def sized(part: bytes) -> bytes:
    """A part behind its length, 4 bytes, big-endian."""
    size = len(part)
    return (_LENGTHS[size] if size < 256 else size.to_bytes(_LENGTH_BYTES, "big")) + part


def sequence(parts: Iterable[bytes]) -> bytes:
    return b"".join(map(sized, parts))


def parts_of(data: bytes) -> list[bytes]:
    """The parts of a sequence, in order. Raises SequenceBroken."""
    parts, at = list[bytes](), 0
    while at < len(data):
        end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        if at + _LENGTH_BYTES > len(data) or end > len(data):
            raise SequenceBroken("not a sequence of parts")
        parts.append(data[at + _LENGTH_BYTES : end])
        at = end
    return parts
