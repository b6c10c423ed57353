"""Servers that do not answer as a portal or a vault should: web pages, redirects, silence, broken answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Misbehaving(Enum):
    """(status, content type, body), or what it does instead of answering."""

    HTML = (200, "text/html", b"<html>Welcome</html>")
    HTML_ERROR = (502, "text/html", b"<html>Bad gateway</html>")
    HTML_FORBIDDEN = (403, "text/html", b"<html>Blocked by a proxy</html>")
    REDIRECT = (307, "text/plain", b"")
    NOT_JSON = (200, "application/json", b"{'a': 1}")
    LIST = (200, "application/json", b"[]")
    EMPTY_OBJECT = (200, "application/json", b"{}")
    SERVER_ERROR = (500, "application/json", b"{}")
    BUSY = (429, "application/json", b"{}")
    HUGE = (200, "application/json", b"")
    SILENT = (0, "", b"")
    CUT_OFF = (-1, "", b"")


@dataclass
class Running:
    """address: of the server; followed: how many requests came to where the redirect leads; tokens: what was sent."""

    address: str
    followed: int = 0
    tokens: list[str] = field(default_factory=list)


@contextmanager
def misbehaving(how: Misbehaving, port: int = 0) -> Iterator[Running]:
    """A server that answers every request the same wrong way."""
    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(how, stop))
    server.daemon_threads = True
    running = Running(f"http://127.0.0.1:{server.server_port}")
    server.running = running  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def _handler(how: Misbehaving, stop: threading.Event) -> type[BaseHTTPRequestHandler]:
    status, kind, body = how.value

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            running: Running = self.server.running  # type: ignore[attr-defined]
            running.tokens.append(self.headers.get("Authorization", "") + self.headers.get("X-Vault-Token", ""))
            running.followed += self.path == "/followed"
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if how is Misbehaving.SILENT:
                stop.wait(30)
            if status <= 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if how is Misbehaving.REDIRECT:
                self.send_header("Location", f"{running.address}/followed")
            if how is Misbehaving.HUGE:
                self._endless()
                return
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _endless(self) -> None:
            self.end_headers()
            self.close_connection = True
            piece = b" " * (1024 * 1024)
            try:
                while not stop.is_set():
                    self.wfile.write(piece)
            except OSError:
                return

        do_GET = do_POST = do_PUT = do_PATCH = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler
