"""A document of the directory as its dataclass says: whatever was written there, nothing of another type is worked with.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Made = TypeVar("Made")


def built(made: type[Made], document: Any) -> Made:
    """The dataclass of a decoded JSON object, and those in it. Raises TypeError for a name or a type that is not its own."""
    hints = get_type_hints(made)
    if not isinstance(document, dict) or not document.keys() <= hints.keys():
        raise TypeError
    return made(**{name: _value(hints[name], one) for name, one in document.items()})


def _value(kind: Any, value: Any) -> Any:
    """The value as an annotation wants it; JSON has no tuples, and one kind of number. Raises TypeError."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        kind = NoneType if value is None and NoneType in inner else next(one for one in inner if one is not NoneType)
        return _value(kind, value)
    if origin in (list, tuple) and isinstance(value, list):
        return origin(_value(inner[0], one) for one in value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {_value(inner[0], name): _value(inner[1], one) for name, one in value.items()}
    if is_dataclass(kind):
        return built(kind, value)  # type: ignore[arg-type]
    if kind is Any or type(value) is kind or (origin is Literal and value in inner):
        return value
    raise TypeError
