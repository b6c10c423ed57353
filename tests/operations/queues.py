"""Queues that are none, for tests of what goes on without one."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

from tests.live import WORKING, LivePortal


@contextmanager
def through(portal: LivePortal, url: str) -> Iterator[None]:
    """The portal's processes with another queue."""
    before = portal.environment["KMS_REDIS_URL"]
    _restart(portal, url)
    try:
        yield
    finally:
        _restart(portal, before)


def _restart(portal: LivePortal, url: str) -> None:
    portal.environment["KMS_REDIS_URL"] = url
    for name in ("web", *WORKING):
        portal.kill(name)
        portal.start(name)
    portal.wait_until_up()


@contextmanager
def swallowing(url: str) -> Iterator[str]:
    """A queue that takes every message and has none: it makes TOUCH, which changes nothing, of each LPUSH."""
    with _server(lambda near: _between(near, url, b"TOUCH")) as address:
        yield address


@contextmanager
def refusing(url: str) -> Iterator[str]:
    """A queue that answers each message with an error: it knows no LPUSH."""
    with _server(lambda near: _between(near, url, b"WRONG")) as address:
        yield address


@contextmanager
def dripping(url: str) -> Iterator[str]:
    """A queue whose answers never end: a byte of them comes every second."""
    with _server(_drip) as address:
        yield address


@contextmanager
def _server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=_accept, args=(server, serve), daemon=True).start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with suppress(OSError):  # closed: the test is over
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


def _between(near: socket.socket, url: str, instead: bytes) -> None:
    target = urlsplit(url)
    far = socket.create_connection((target.hostname, target.port))
    threading.Thread(target=_pass_on, args=(far, near), daemon=True).start()
    _pass_on(near, far, instead)


def _pass_on(source: socket.socket, sink: socket.socket, instead: bytes = b"LPUSH") -> None:
    with suppress(OSError), closing(source), closing(sink):
        while piece := source.recv(65536):
            sink.sendall(piece.replace(b"\r\nLPUSH\r\n", b"\r\n" + instead + b"\r\n"))


def _drip(near: socket.socket) -> None:
    with suppress(OSError), closing(near):
        near.sendall(b"+")
        while True:
            time.sleep(1)
            near.sendall(b"a")
