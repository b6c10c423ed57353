"""An answer that is whole by a deadline, however slowly it comes: a socket's own timeout counts each piece anew.

Pure, and without a thread: what reads a connection waits no longer than what is left. Counted from when the request is
sent, once for each answer: of a server, and of a proxy before it.
"""

from __future__ import annotations

import io
import socket
import time
from functools import partial
from http.client import HTTPResponse
from typing import Any

from urllib3 import HTTPConnectionPool


class _TimelyReader(io.RawIOBase):
    """What a socket receives until the deadline; then TimeoutError."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, seconds: float) -> None:
        self._raw, self._connection = raw, connection
        self._each, self._ends = connection.gettimeout() or seconds, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(min(self._each, left))
        return self._raw.readinto(buffer)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimelyResponse(HTTPResponse):
    """Status line, headers and body together arrive within `seconds`."""

    def __init__(self, sock: socket.socket, *positional: Any, seconds: float, **named: Any) -> None:
        super().__init__(sock, *positional, **named)
        self.fp = io.BufferedReader(_TimelyReader(self.fp.detach(), sock, seconds))


def timely(pool: type[HTTPConnectionPool], seconds: float) -> type[HTTPConnectionPool]:
    """The same kind of pool (of urllib3), whose answers end within `seconds` by urllib3's ReadTimeoutError."""
    response = staticmethod(partial(_TimelyResponse, seconds=seconds))
    connection = type(f"Timely{pool.ConnectionCls.__name__}", (pool.ConnectionCls,), {"response_class": response})
    return type(f"Timely{pool.__name__}", (pool,), {"ConnectionCls": connection})
