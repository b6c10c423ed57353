"""Sequences: parts that are authenticated together, each behind its length, so that no two sequences share their bytes. Pure.

What is signed begins with a part that names its form; ids are the 16 bytes of a UUID, numbers and times (seconds since 1970)
8 bytes, big-endian, texts UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

_LENGTH_BYTES: Final = 4
_LENGTHS: Final = [length.to_bytes(_LENGTH_BYTES, "big") for length in range(256)]
_NUMBER_BYTES: Final = 8


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


def parts_in_form(data: bytes, form: bytes, count: int, *, more: bool = False) -> list[bytes]:
    """The parts after the one that names the form: so many, or `more`. Raises SequenceBroken."""
    parts = parts_of(data)
    if not parts or parts[0] != form or len(parts) <= count or (len(parts) > count + 1 and not more):
        raise SequenceBroken(f"not in the form {form.decode()}")
    return parts[1:]


def number(value: int) -> bytes:
    return value.to_bytes(_NUMBER_BYTES, "big")


def number_in(part: bytes) -> int:
    """Raises SequenceBroken."""
    if len(part) != _NUMBER_BYTES:
        raise SequenceBroken("not a number")
    return int.from_bytes(part, "big")


def id_in(part: bytes) -> UUID:
    """Raises SequenceBroken."""
    if len(part) != 16:
        raise SequenceBroken("not an id")
    return UUID(bytes=part)


def text_in(part: bytes) -> str:
    """Raises SequenceBroken."""
    try:
        return part.decode()
    except UnicodeDecodeError:
        raise SequenceBroken("not a text") from None
