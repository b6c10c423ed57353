"""I5: the portal never opens a connection to an address a customer gave. The guard is on in every test (tests/guard.py)."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.http import HttpRequest, HttpResponse

from tests import guard
from tests.live import ROOT, LivePortal

PROBE = """
import django, os, socket
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
for call in (lambda: socket.create_connection(("127.0.0.1", 9), 1), lambda: socket.getaddrinfo("evil.example", 443)):
    try:
        call()
    except OSError as error:
        print(type(error).__name__)
"""


def test_the_guard_refuses_and_writes_down_what_a_portal_process_reaches_for(tmp_path: Path) -> None:
    report = tmp_path / "guard"
    environment = {"PATH": "/usr/bin", "KMS_VAR": str(tmp_path), guard.REPORT: str(report)}
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["Forbidden", "Forbidden"], done.stderr
    assert report.read_text() == "socket.getaddrinfo 127.0.0.1:9\nsocket.getaddrinfo evil.example:443\n"


def test_the_guard_is_on_while_a_request_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(guard, "seen", [])

    def view(request: HttpRequest) -> HttpResponse:
        with pytest.raises(guard.Forbidden):
            socket.create_connection(("192.0.2.1", 443), 1)
        return HttpResponse()

    guard.guard_requests(view)(HttpRequest())
    assert guard.seen == ["socket.getaddrinfo 192.0.2.1:443"]


@pytest.mark.django_db(transaction=True)
def test_the_running_portal_is_guarded(portal: LivePortal) -> None:
    assert portal.environment[guard.REPORT]
    assert portal.forbidden_connections() == ""
