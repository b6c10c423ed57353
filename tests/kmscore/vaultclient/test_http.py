"""The one HTTP client: what bounds it, and what it takes from nobody; at real servers."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.http import HttpClient, HttpFailed, Limits
from kmsruntime.remote.portal import Portal
from tests.kmscore.byov.situations import dripping
from tests.servers import free_port

LIMITS = Limits(connect=1.0, silence=1.0, within=5.0, most=1000)
Seen = list[tuple[str, dict[str, str], bytes]]


@contextmanager
def server(*headers: tuple[str, str], status: int = 200, body: bytes = b"{}") -> Iterator[tuple[str, Seen]]:
    """Answers everything alike: its address, and what it was asked with."""
    seen: Seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen.append((self.path, dict(self.headers), self.rfile.read(length)))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if "Transfer-Encoding" not in dict(headers):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{found.server_port}", seen
    finally:
        found.shutdown()
        found.server_close()


def code_of(address: str, limits: Limits = LIMITS) -> str:
    with pytest.raises(HttpFailed) as caught:
        HttpClient(address, None, limits).request("GET", "/", {"Authorization": "canary"})
    assert caught.value.__context__ is None
    return caught.value.code


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "APPLICATION/JSON;q=1"])
def test_a_media_type_is_known_however_it_is_written(kind: str) -> None:
    with server(("content-TYPE", kind)) as (address, _):
        assert Vault(address).call("GET", "sys/health") == {}
        assert Portal(address).get("sync", "token").document == {}


def test_a_redirect_is_an_answer_and_followed_by_nobody() -> None:
    with server(("Location", "/elsewhere"), status=307) as (address, seen):
        assert HttpClient(address, None, LIMITS).request("GET", "/here", {}).status == 307
        assert [path for path, _, _ in seen] == ["/here"]


def test_no_cookie_and_nothing_of_the_environment_comes_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login canary password canary\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://canary:canary@127.0.0.1:{free_port()}")
    with server(("Set-Cookie", "canary=1; Path=/")) as (address, seen):
        client = HttpClient(address, None, LIMITS)
        for _ in range(2):
            client.request("GET", "/", {})
        assert "canary" not in repr(seen).lower()
        assert {"Cookie", "Authorization"} & set(seen[1][1]) == set()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((), b"x" * 1001),
        ((("Transfer-Encoding", "chunked"),), b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
        ((("Transfer-Encoding", "chunked"), ("Content-Length", "2")), b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
    ],
    ids=["with its length", "in chunks", "with a length that is none"],
)
def test_more_than_the_limit_is_refused_however_it_comes(headers: tuple[tuple[str, str], ...], body: bytes) -> None:
    with server(*headers, body=body) as (address, _):
        assert code_of(address) == "too_large"


def test_exactly_the_limit_is_taken_and_the_connection_is_kept() -> None:
    with server(body=b"x" * 1000) as (address, _):
        client = HttpClient(address, None, LIMITS)
        for _ in range(3):
            assert len(client.request("GET", "/", {}).content) == 1000
        (pool,) = client._pools.pools._container.values()
        assert (pool.num_connections, pool.num_requests) == (1, 3)


def test_an_encoding_nobody_asked_for_is_not_unfolded() -> None:
    with server(("Content-Encoding", "gzip"), body=b"no gzip") as (address, seen):
        assert HttpClient(address, None, LIMITS).request("GET", "/", {}).content == b"no gzip"
        assert seen[0][1]["Accept-Encoding"] == "identity"


def test_why_there_is_no_answer_is_told_apart() -> None:
    assert code_of(f"http://127.0.0.1:{free_port()}") == "unreachable"
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b" ", pause=3) as address:
        assert code_of(address, Limits(1.0, 0.2, 5.0, 1000)) == "timeout"
    with server(("Transfer-Encoding", "chunked"), body=b"no chunk\r\n") as (address, _):
        assert code_of(address) == "unreachable"


def test_a_header_that_would_begin_another_is_not_sent() -> None:
    with server() as (address, seen), pytest.raises(HttpFailed) as caught:
        HttpClient(address, None, LIMITS).request("GET", "/", {"X-Vault-Token": "canary\r\nX: y"})
    assert (caught.value.code, seen, "canary" in repr(caught.value)) == ("unreadable", [], False)


def test_files_go_and_come_piece_by_piece_and_say_how_long_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"y" * 5000)
    with server(body=b"z" * 5000) as (address, seen), (tmp_path / "file").open("rb") as file:
        came = io.BytesIO()
        found = HttpClient(address, None, LIMITS).request("POST", "/", {}, file, write=came.write)
        assert (found.content, came.getvalue()) == (b"", b"z" * 5000)
        assert (seen[0][1]["Content-Length"], seen[0][2]) == ("5000", b"y" * 5000)


def test_the_deadline_counts_from_when_the_request_is_sent_and_anew_for_each() -> None:
    with server() as (address, _):
        client = HttpClient(address, None, Limits(1.0, 1.0, 0.3, 1000))
        client.request("GET", "/", {})
        time.sleep(0.5)
        assert client.request("GET", "/", {}).status == 200
