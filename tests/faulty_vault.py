"""A vault that fails half-way, or takes its time: everything is passed on to the real one, but what a rule names is answered
with a failure, or only after something else has happened."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from django.db import connection


@contextmanager
def failing_at(vault: str, part: str, *, applied: bool, after: int = 0, status: int = 500) -> Iterator[str]:
    """Address of a proxy before `vault` that answers with `status` to paths with `part` in them; `applied`: done all the same.

    after: how many such requests are passed on before it begins to fail. 503 is what a sealed vault answers.
    """
    passed = 0

    def is_broken(path: str) -> bool:
        nonlocal passed
        broken = part in path
        if broken and passed < after:
            passed, broken = passed + 1, False
        return broken

    with _proxy(vault, is_broken, applied, status) as address:
        yield address


@contextmanager
def meanwhile_at(vault: str, part: str, *acts: Callable[[], object]) -> Iterator[str]:
    """Address of a proxy before `vault` that does one of `acts` before it passes on each of the first with `part` in their path."""
    left = list(acts)

    def never_broken(path: str) -> bool:
        if part in path and left:
            left.pop(0)()
            connection.close()  # this thread's own
        return False

    with _proxy(vault, never_broken, applied=True, status=500) as address:
        yield address
    assert not left, f"nobody asked for {part}"


@contextmanager
def _proxy(vault: str, is_broken: Callable[[str], bool], applied: bool, status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: self.headers[name] for name in ("X-Vault-Token", "Content-Type") if name in self.headers}
            broken = is_broken(self.path)
            code, content = status, b'{"errors": ["internal error"]}'
            if applied or not broken:
                answer = requests.request(self.command, vault + self.path, data=body, headers=headers, timeout=10)
                if not broken:
                    code, content = answer.status_code, answer.content
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
