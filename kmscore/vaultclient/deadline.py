"""An answer that is whole by a deadline and within an allowance, however it comes: a socket's own timeout counts each piece
anew, and the standard library believes what an answer says of its own length.

Pure, and without a thread: what reads a connection waits no longer than what is left, and takes no more than is allowed.
Counted from when the request is sent, once for each answer: of a server, and of a proxy before it.
"""

from __future__ import annotations

import io
import re
import socket
import time
from functools import partial
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead, LineTooLong, parse_headers
from typing import Any, Final

from urllib3 import HTTPConnectionPool

_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?\r?\n", re.DOTALL)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] [0-9]{3}(?: [^\r\n]*)?\r?\n")
_LENGTH: Final = re.compile(r"[ \t]*[0-9]{1,18}[ \t]*")
_LINE_BYTES: Final = 65537  # as http.client
_SWITCHING: Final = 101


class TooMuch(Exception):
    """More bytes came than an answer is allowed."""


class Unframed(Exception):
    """What came does not begin, measure or divide an answer as HTTP/1.1 does."""


class _TimelyReader(io.RawIOBase):
    """What a socket receives until the deadline, then TimeoutError; and no more than `allowed` bytes, then TooMuch."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, seconds: float, allowed: float) -> None:
        self._raw, self._connection, self._allowed = raw, connection, allowed
        self._each, self._ends = connection.gettimeout() or seconds, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(min(self._each, left))
        count = self._raw.readinto(buffer)
        self._allowed -= count or 0
        if self._allowed < 0:
            raise TooMuch
        return count

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """Knows whether a line was asked for that broke off: the standard library takes the end of what came for the end of the
    headers. And whether one holds a carriage return that ends none: it takes that for the end of a line, too."""

    broke_off, divided, last = False, False, b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = line = super().readline(size)
        self.broke_off |= not line.endswith(b"\n") and (size is None or size < 0 or len(line) < size)
        self.divided |= b"\r" in line.removesuffix(b"\n").removesuffix(b"\r")
        return line


class _TimelyResponse(HTTPResponse):
    """Status line, headers and body together arrive within `seconds`, and are no more than `allowed` bytes."""

    def __init__(self, sock: socket.socket, *positional: Any, seconds: float, allowed: float, **named: Any) -> None:
        super().__init__(sock, *positional, **named)
        self.fp = self._lines = _Lines(_TimelyReader(self.fp.detach(), sock, seconds, allowed))

    def begin(self) -> None:
        try:
            super().begin()
        except HTTPException as error:
            if type(error) in (HTTPException, LineTooLong):  # more than 100 headers, or 64 KiB of one
                raise Unframed from None
            raise
        if self._lines.broke_off:
            raise IncompleteRead(b"")
        if self._lines.divided or not _is_measured(self.headers):
            raise Unframed

    def _read_status(self) -> tuple[str, int, str]:
        """Of the final answer. Interim ones (1xx) say nothing of it; but nobody here asked for another protocol."""
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not (
                self._lines.broke_off or _STATUS.fullmatch(self._lines.last)
            ):  # it reads "+200" and "2_00" as numbers, too
                raise Unframed
            if found[1] >= 200:
                return found
            if found[1] == _SWITCHING:
                raise Unframed
            parse_headers(self.fp)

    def _read_next_chunk_size(self) -> int:
        """The standard library reads "-1" as a number too, and then everything there is."""
        line = self.fp.readline(_LINE_BYTES)
        size = _CHUNK_SIZE.fullmatch(line)
        if size is not None:
            return int(size[1], 16)
        if line.endswith(b"\n") or len(line) == _LINE_BYTES:
            raise Unframed
        raise ValueError  # it broke off, which the caller tells


def _is_measured(headers: HTTPMessage) -> bool:
    """Whether it says in one way how long it is, or not at all. The standard library takes a length that is none, and any
    coding but `chunked`, for an answer that ends where the connection does: one that broke off would be a whole one."""
    lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
    if codings:
        return [coding.lower() for coding in codings] == ["chunked"] and not lengths
    return len(set(lengths)) < 2 and all(map(_LENGTH.fullmatch, lengths))


def timely(pool: type[HTTPConnectionPool], seconds: float, allowed: float) -> type[HTTPConnectionPool]:
    """The same kind of pool (of urllib3), whose answers end within `seconds` by urllib3's ReadTimeoutError.

    allowed: bytes an answer may have as it comes, headers and what divides it included; then TooMuch. Raises Unframed too.
    """
    response = staticmethod(partial(_TimelyResponse, seconds=seconds, allowed=allowed))
    connection = type(f"Timely{pool.ConnectionCls.__name__}", (pool.ConnectionCls,), {"response_class": response})
    return type(f"Timely{pool.__name__}", (pool,), {"ConnectionCls": connection})
