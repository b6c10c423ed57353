"""A value that must not be shown: formatting, logging, pickling, serialising or rendering it gives no secret.

Pure. `reveal()` is the one way to the value, so every use can be found by searching for it.
"""

from __future__ import annotations

from typing import Any, NoReturn


class Secret:
    """Holds text that only `reveal()` gives back. Two secrets are never compared by `==`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def size(self) -> int:
        """Bytes of the text in UTF-8."""
        return len(self._text.encode())

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret has no state to give")
