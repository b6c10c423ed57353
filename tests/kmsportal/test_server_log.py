"""What gunicorn cannot read it does not print: a password can stand where it expects a request."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live import ROOT
from tests.servers import _answers, free_port

CANARY = b"canary-5c1d"
UNREADABLE = [  # as the attacker sent them
    b"POST /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nlogin=a&password=%b&x=1\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer %b\r\n\r\n",
    b"GET /?t=%b HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /?t=%b HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
    b"g%b / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: %b\r\n\r\n",
    b"GET /?t=%b HTTP/1.1\r\nHost: local",  # and no more
]


@contextmanager
def web(log: Path, *more: str) -> Iterator[int]:
    """The web server by the command of docs/operations.md: its port."""
    words = re.search("`(gunicorn kmsportal.wsgi[^`]+)`", (ROOT / "docs/operations.md").read_text())
    assert words
    port = free_port()
    command = [sys.executable, "-m", *words[1].split(), "--bind", f"127.0.0.1:{port}", "--no-control-socket", *more]
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "KMS_LOG_LEVEL": "DEBUG"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        while not _answers(f"http://127.0.0.1:{port}/live"):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("more", [(), ("--log-level", "debug")], ids=["as documented", "debug"])
def test_what_the_server_cannot_read_is_not_in_its_log(tmp_path: Path, more: tuple[str, ...]) -> None:
    log = tmp_path / "web.log"
    with web(log, *more) as port:
        for request in UNREADABLE:
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(request.replace(b"%b", CANARY))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
    said = log.read_text()
    assert said.count("Invalid request from ip=127.0.0.1") >= 5
    assert CANARY.decode() not in said
