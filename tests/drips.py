"""Clients that never come to an end: each sends a head or a body by a few bytes a second, on connections of its own."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

PLACES = (b"/", b"/api/atom/v1/report")
HEAD = b"POST %b HTTP/1.1\r\nHost: localhost:%d\r\nContent-Type: application/x-www-form-urlencoded\r\n%b"
BODY = HEAD + b"Content-Length: 100000\r\n\r\n"
EVERY = 0.25  # seconds
PIECE = b"X-A: aaaaaaaaaaaaa\r\n"  # a header's line, or part of a body: 80 bytes a second


class Drips:
    """`count` connections to a loopback port, half with slow heads, half with slow bodies, from these addresses in turn.

    They say that they come from a page of `url` and bring a token's cookie, named by the web server's own port: else they would be
    refused before their body is read.
    """

    def __init__(self, url: str, count: int, *sources: str, named: int, context: ssl.SSLContext | None = None) -> None:
        self.port, self.count, self.sources, self.context = int(url.rpartition(":")[2]), count, sources, context
        self.more = f"Referer: {url}/\r\nCookie: csrf-{named}={'a' * 32}\r\n".encode()
        self.sent = 0
        self.connections: list[socket.socket] = []
        self._ended = threading.Event()

    def _open(self, number: int) -> socket.socket:
        source = self.sources[number // 4 % len(self.sources)]
        one = socket.create_connection(("127.0.0.1", self.port), 10, source_address=(source, 0))
        if self.context is not None:
            one = self.context.wrap_socket(one, server_hostname="localhost")
        one.sendall((BODY if number % 2 else HEAD) % (PLACES[number // 2 % 2], self.port, self.more))
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
