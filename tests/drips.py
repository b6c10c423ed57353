"""Clients that never come to an end: each sends a head or a body by a few bytes a second, on connections of its own."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

HEAD = b"POST /auth/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
BODY = HEAD + b"Content-Length: 1000000\r\n\r\n"
EVERY = 0.25  # seconds
PIECE = b"X-A: aaaaaaaaaaaaa\r\n"  # a header's line, or part of a body: 80 bytes a second


class Drips:
    """`count` connections to a loopback port, half with slow heads, half with slow bodies, from an address of their own."""

    def __init__(self, port: int, count: int, source: str, context: ssl.SSLContext | None = None) -> None:
        self.port, self.count, self.source, self.context = port, count, source, context
        self.sent = 0
        self.connections: list[socket.socket] = []
        self._ended = threading.Event()

    def _open(self, number: int) -> socket.socket:
        one = socket.create_connection(("127.0.0.1", self.port), 10, source_address=(self.source, 0))
        if self.context is not None:
            one = self.context.wrap_socket(one, server_hostname="localhost")
        one.sendall(BODY if number % 2 else HEAD)
        return one

    def _drip(self) -> None:
        while not self._ended.wait(EVERY):
            for at, one in enumerate(self.connections):
                try:
                    one.sendall(PIECE)
                except OSError:  # it was refused or cut off: the next one comes
                    one.close()
                    with contextlib.suppress(OSError):
                        self.connections[at] = self._open(at)
            self.sent += 1

    @contextlib.contextmanager
    def dripping(self) -> Iterator["Drips"]:
        """All of them are open, and go on."""
        self.connections = [self._open(number) for number in range(self.count)]
        thread = threading.Thread(target=self._drip)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            for one in self.connections:
                one.close()
