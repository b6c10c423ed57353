"""The socket guard: no portal process opens a connection, or asks for a name, that its operator's settings do not name (I5).

Every process of the tests' portal loads tests.settings and is guarded from then on; so is every request that a test's own
client makes in this process. What is not allowed is written down and refused. Nothing of this can be switched off again:
audit hooks stay for the life of a process.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse

REPORT = "KMS_TEST_GUARD"  # a file's path: set for the portal's own processes
_here = threading.local()
seen: list[str] = []  # of this process


class Forbidden(OSError):
    """The portal tried to reach an address that is not its operator's."""


def install() -> None:
    report = os.environ.get(REPORT)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.getaddrinfo"):
            return
        if report is None and not getattr(_here, "guarded", False):
            return
        host, port = _asked(event, args)
        if host is None or _is_allowed(host, port):
            return
        line = f"{event} {host}:{port}"
        seen.append(line)
        if report is not None:
            with Path(report).open("a") as file:
                file.write(line + "\n")
        raise Forbidden(line)

    sys.addaudithook(hook)


def guard_requests(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """The middleware that guards requests in this process."""

    def middleware(request: HttpRequest) -> HttpResponse:
        before = getattr(_here, "guarded", False)
        _here.guarded = True
        try:
            return get_response(request)
        finally:
            _here.guarded = before

    return middleware


def _asked(event: str, args: tuple[Any, ...]) -> tuple[str | None, object]:
    if event == "socket.getaddrinfo":
        host, port = args[0], args[1]
    else:
        address = args[1]
        if not isinstance(address, tuple):  # a Unix socket
            return None, None
        host, port = address[0], address[1]
    text = host.decode() if isinstance(host, bytes) else host
    return (text or None), port


def _is_allowed(host: str, port: object) -> bool:
    from django.conf import settings

    addresses = [settings.VAULT_ADDR, settings.CELERY_BROKER_URL, os.environ.get("KMS_REDIS_URL", "")]
    addresses.append(os.environ.get("KMS_DATABASE_URL", ""))
    allowed = {(parts.hostname, parts.port) for parts in map(urlsplit, filter(None, addresses))}
    # A name is looked up without a port by some libraries; only the same hosts may be looked up at all.
    return (host, port) in allowed or (not port and host in {name for name, _ in allowed})
