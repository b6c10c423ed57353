"""Writes down every connection and every question to a name server of a process that a test starts, and refuses none."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

_RECORD = "KMS_TEST_RECORD"
# Python imports it before anything else; an audit hook sees what every library does, and cannot be taken off again.
_SITE = f"""
import os, sys

FILE = os.open(os.environ["{_RECORD}"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def hook(event, args):
    if event in ("socket.connect", "socket.sendto"):
        host, port = args[1][:2] if isinstance(args[1], tuple) else (args[1], "")
    elif event == "socket.getaddrinfo":
        host, port = args[:2]
    elif event == "socket.gethostbyname":
        host, port = args[0], ""
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    os.write(FILE, f"{{event.removeprefix('socket.')}} {{host}}:{{port}}\\n".encode())


sys.addaudithook(hook)
"""


class Recorder:
    """For the processes of one test. directory: an empty one."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._record = directory, directory / "record"
        (directory / "sitecustomize.py").write_text(_SITE)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a Python process tell."""
        return {"PYTHONPATH": str(self._directory), _RECORD: str(self._record)}

    def lines(self) -> list[str]:
        """``connect 127.0.0.1:8200``, ``getaddrinfo vault.example.com:8200``, in order."""
        return self._record.read_text().splitlines()

    def beyond(self, *addresses: str) -> list[str]:
        """What went to other places than these addresses (scheme://host:port)."""
        known = {f"{parts.hostname}:{parts.port}" for parts in map(urlsplit, addresses)}
        return [line for line in self.lines() if line.split(" ", 1)[1] not in known]
