"""Mail goes to a server whose certificate is trusted, and to no other."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import get_connection, send_mail

from tests.kmscore.byov.situations import serving
from tests.kmscore.vaultclient.test_tls import certificate, named


@contextmanager
def mail_server(pem: Path, heard: list[str]) -> Iterator[int]:
    """Takes mail after STARTTLS; `heard` is what it was told under TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def handle(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example.org ESMTP\r\n")
        connection.recv(400)  # EHLO
        connection.sendall(b"250-mail.example.org\r\n250 STARTTLS\r\n")
        connection.recv(400)
        connection.sendall(b"220 go\r\n")
        with context.wrap_socket(connection, server_side=True) as tls, tls.makefile("rb") as lines:
            within = False
            for line in lines:
                heard.append(line.decode().strip())
                word = heard[-1].upper()
                if not within or word == ".":
                    tls.sendall(b"354 go\r\n" if word == "DATA" else b"250 ok\r\n")
                within = word == "DATA" or within and word != "."

    with serving(handle) as port:
        yield port


@pytest.fixture
def send(settings: Any) -> Any:
    def send(port: int, ca: str | None) -> None:
        settings.EMAIL_BACKEND, settings.EMAIL_CA = "kmsportal.mail.EmailBackend", ca
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS = "localhost", port, True
        send_mail("Password", "the link", "kms@example.org", ["alice@example.org"], connection=get_connection())

    return send


def test_a_ca_of_your_own_is_trusted(tmp_path: Path, send: Any) -> None:
    pem, heard = certificate(tmp_path, named("localhost")), []
    with mail_server(pem, heard) as port:
        send(port, str(pem))
    assert "the link" in heard


@pytest.mark.parametrize("name", ["localhost", "elsewhere"])
def test_who_is_not_trusted_hears_nothing(tmp_path: Path, send: Any, name: str) -> None:
    pem, heard = certificate(tmp_path, named(name)), []
    with mail_server(pem, heard) as port, pytest.raises(ssl.SSLCertVerificationError):
        send(port, str(pem) if name == "elsewhere" else None)
    assert heard == []
