"""The one HTTP client: what bounds it, and what it takes from nobody; at real servers."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.http import HttpClient, HttpFailed, Limits
from kmsruntime.errors import PortalMisconfigured
from kmsruntime.remote.portal import Portal
from tests.kmscore.byov.situations import _request, dripping, serving
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


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"


@contextmanager
def saying(*texts: bytes, then: bytes = b"", forever: bool = False) -> Iterator[str]:
    """A server that answers each request of a connection with the next text, whatever it is, and the last with `then`,
    once or for ever; then it hangs up: its address."""

    def handle(connection: socket.socket) -> None:
        for text in texts:
            _request(connection)
            connection.sendall(text)
        connection.sendall(then)
        while forever:
            connection.sendall(then)

    with serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


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
    ],
    ids=["with its length", "in chunks"],
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
        assert code_of(address) == "unreadable"
    for broken in (
        CHUNKED + b"5\r\nab",
        CHUNKED + b"5",
        CHUNKED,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
        b"HT",
    ):
        with saying(broken) as address:
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


# -- what no server should say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [b"-1", b"-5", b"0x5", b"+5", b"1_0", b" 5", b"", b"zz", b"f" * 17, b"5" * 70_000])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_size_of_a_chunk_is_hex_digits_and_nothing_else(size: bytes, *, streamed: bool) -> None:
    with saying(CHUNKED + size + b"\r\n" + b"A" * 2000) as address, pytest.raises(HttpFailed) as caught:
        HttpClient(address, None, LIMITS).request("GET", "/", {}, write=io.BytesIO().write if streamed else None)
    assert (caught.value.code, caught.value.__context__) == ("unreadable", None)


def test_chunks_as_they_are_sent_are_read() -> None:
    text = CHUNKED + b"5;a=b\r\nabcde\r\n00A  \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    with saying(text, text) as address:
        client, came = HttpClient(address, None, LIMITS), io.BytesIO()
        client.request("GET", "/", {}, write=came.write)
        assert client.request("GET", "/", {}).content == came.getvalue() == b"abcde0123456789"


FLOODS = {
    "a chunk of any size": (CHUNKED + b"-1\r\n", b"A" * 65536),
    "chunks of one byte": (CHUNKED, b"1;" + b"x" * 9000 + b"\r\nA\r\n"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n"),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b"A" * 65536),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_at_the_allowance_and_not_at_the_deadline(name: str) -> None:
    head, again = FLOODS[name]
    with saying(head, then=again, forever=True) as address:
        began = time.monotonic()
        assert code_of(address, Limits(1.0, 1.0, 30.0, 1000)) in ("too_large", "unreadable")
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 204",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
        b"HTTP/1.1 103 Early Hints\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n\r\n",
        OK,
    ],
)
def test_an_answer_that_broke_off_is_none(sent: bytes) -> None:
    """Attacks that succeeded: half a head was an answer without content, and a list of the vault's without entries."""
    with saying(sent) as address:
        assert code_of(address, LIMITS) == "unreachable"


MEASURED_WRONGLY = [
    *(b"Content-Length: " + length for length in (b"abc", b"-5", b"+9", b"1_0", b"", b"9, 9", b"9" * 19)),
    b"Content-Length: 9\r\nContent-Length: 8",
    *(b"Transfer-Encoding: " + coding for coding in (b"xchunked", b"gzip, chunked", b"chunked, chunked", b"gzip", b"")),
    b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 9",
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("header", MEASURED_WRONGLY)
def test_an_answer_says_its_length_in_one_way_that_is_understood(header: bytes, *, streamed: bool) -> None:
    """Attacks that succeeded: an answer ended where the connection broke, and chunks were taken with what divides them."""
    came = io.BytesIO()
    with saying(OK.replace(b"Content-Length: 9", header) + b"9\r\n{") as address, pytest.raises(HttpFailed) as caught:
        HttpClient(address, None, LIMITS).request("GET", "/", {}, write=came.write if streamed else None)
    assert (caught.value.code, came.getvalue()) == ("unreadable", b"")


def test_a_stream_that_does_not_say_where_it_ends_is_not_taken_for_whole() -> None:
    """An attack that succeeded: half a snapshot counted as one."""
    came = io.BytesIO()
    with saying(b"HTTP/1.1 200 OK\r\n\r\nhalf a snap") as address, pytest.raises(HttpFailed) as caught:
        HttpClient(address, None, LIMITS).request("GET", "/", {}, write=came.write)
    assert (caught.value.code, came.getvalue()) == ("unreadable", b"")


@pytest.mark.parametrize("status", [b"200 OK", b"201 Created", b"307 Temporary Redirect", b"399 ?"])
def test_content_without_a_length_is_taken_of_an_error_only(status: bytes) -> None:
    """An attack that succeeded: what came before the connection was cut was all that a vault holds."""
    head = b"\r\nContent-Type: application/json\r\n\r\n"
    with saying(b"HTTP/1.1 " + status + head + b'{"data":{}}') as address:
        assert code_of(address) == "unreachable"
    with saying(b"HTTP/1.1 400 Bad Request" + head + b"Client sent an HTTP re") as address:
        found = HttpClient(address, None, LIMITS).request("GET", "/", {})
        assert (found.status, found.content) == (400, b"Client sent an HTTP re")


@pytest.mark.parametrize("value", [b"a\rContent-Length: 4", b"a\r\rb", b"a\r \r\nContent-Length: 4"])
def test_a_header_ends_with_its_line(value: bytes) -> None:
    with saying(OK.replace(b"\r\n\r\n", b"\r\nX: " + value + b"\r\n\r\n") + b'{"a":"b"}') as address:
        assert code_of(address) == "unreadable"


@pytest.mark.parametrize("headers", [b"X: " + b"a" * 70_000 + b"\r\n", b"X: a\r\n" * 200])
@pytest.mark.parametrize("status", [b"200 OK", b"103 Early Hints"])
def test_headers_without_bounds_are_no_answer_that_is_asked_for_again(status: bytes, headers: bytes) -> None:
    with saying(b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n") as address:
        assert code_of(address) == "unreadable"


def test_that_nothing_changed_is_believed_only_when_it_was_asked() -> None:
    """An attack that succeeded: 304 to what had no ETag was an answer without content."""
    with server(status=304, body=b"") as (address, _):
        assert Portal(address).get("sync", "token", etag='"1"').status == 304
        for ask in (lambda: Portal(address).get("sync", "token"), lambda: Portal(address).post("report", "token", {})):
            with pytest.raises(PortalMisconfigured):
                ask()


@pytest.mark.parametrize("tag", ['"a\x1b[31m"', '"\xff"', '"a b"', '"' + "a" * 300 + '"'])
def test_an_etag_that_holds_more_than_visible_ascii_is_kept_by_nobody(tag: str) -> None:
    with server(("Content-Type", "application/json"), ("ETag", tag)) as (address, _):
        assert Portal(address).get("sync", "token").etag == ""
    with server(("Content-Type", "application/json"), ("ETag", 'W/"1-a"')) as (address, _):
        assert Portal(address).get("sync", "token").etag == 'W/"1-a"'


@pytest.mark.parametrize("size", [b"-1", b"ffffffff"])
@pytest.mark.parametrize("how", ["write=lambda piece: None", ""])
def test_no_framing_brings_much_into_memory(size: bytes, how: str) -> None:
    """In a process of its own: the highest memory a process had is what is measured."""
    program = (
        "import resource, sys; from kmscore.vaultclient.http import *; from kmscore.vaultclient.client import Vault\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "client, before = HttpClient(sys.argv[1], None, Limits(1.0, 1.0, 2.0, 1000)), peak()\n"
        f"try: client.request('GET', '/', {{}}, {how})\n"
        "except HttpFailed: print(peak() - before)\n"
    )
    with saying(CHUNKED + size + b"\r\n", then=b"A" * 65536, forever=True) as address:
        done = subprocess.run([sys.executable, "-c", program, address], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64, "MiB"


@pytest.mark.parametrize("status", [b"102 Processing", b"103 Early Hints", b"100 Continue", b"199 ?"])
def test_an_interim_answer_is_not_the_answer(status: bytes) -> None:
    interim, body = b"HTTP/1.1 " + status + b"\r\nContent-Length: 7\r\n\r\n", b'{"a":"b"}'
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with saying(interim * 3 + OK + body, interim + refusal) as address:
        client = HttpClient(address, None, LIMITS)
        assert client.request("GET", "/", {}).content == body
        assert client.request("POST", "/", {}, b"").status == 403


@pytest.mark.parametrize(
    "status", [b"101 Switching Protocols", b"99 ?", b"-99 ?", b"000 ?", b"+200 OK", b"2_00 OK", b" 200 OK"]
)
def test_a_status_that_is_none_fails_and_its_connection_is_not_kept(status: bytes) -> None:
    with saying(b"HTTP/1.1 " + status + b"\r\n\r\n", OK + b'{"a":"b"}') as address:
        client = HttpClient(address, None, Limits(1.0, 0.5, 1.0, 1000))
        for _ in range(2):
            with pytest.raises(HttpFailed) as caught:
                client.request("GET", "/", {})
            assert caught.value.code in ("unreadable", "unreachable")


def test_an_answer_that_comes_too_late_is_nobody_elses() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    with saying(early, OK + b'{"a":"1"}') as address:
        client = HttpClient(address, None, Limits(1.0, 0.3, 1.0, 1000))
        for _ in range(2):
            with pytest.raises(HttpFailed) as caught:
                client.request("GET", "/", {})
            assert caught.value.code == "timeout"


def test_what_write_raises_is_the_callers() -> None:
    class Full(Exception):
        pass

    def write(piece: bytes) -> None:
        raise Full

    with server(body=b"x" * 10) as (address, _), pytest.raises(Full):
        HttpClient(address, None, LIMITS).request("GET", "/", {}, write=write)
