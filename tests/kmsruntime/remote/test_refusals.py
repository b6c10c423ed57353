"""What a portal refuses with: its own codes, and never one that means something else here."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import orjson
import pytest

from kmsruntime.errors import PortalRefused
from kmsruntime.remote.portal import CODES, Portal
from tests.kmscore.byov.situations import serving
from tests.kmsruntime.container import Container, save
from tests.live import ROOT


@contextmanager
def refusing(code: str) -> Iterator[str]:
    """A portal that says no to everything: its address."""
    body = orjson.dumps({"title": "no", "status": 403, "code": code, "detail": "No."})
    head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with serving(answer) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("kms_inactive", "kms_inactive"),
        *(
            (code, "portal_refused")
            for code in ("ok", "detached", "switch_pending", "already_confirmed", "settings_lower")
        ),
        ("of a later portal", "portal_refused"),
    ],
)
def test_a_code_that_is_not_the_apis_is_only_a_refusal(said: str, heard: str) -> None:
    with refusing(said) as address, pytest.raises(PortalRefused) as caught:
        Portal(address).get("sync", "canary-token")
    assert (caught.value.code, caught.value.sentence, caught.value.status) == (heard, "No.", 403)


def test_the_documentation_lists_the_codes() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| (4[^|]*) \| ([^|]+) \|", text, re.MULTILINE)
    named = [name for status, codes in rows if status != "429" for name in re.findall(r"`(\w+)`", codes)]
    spelled = {f"installer_token{name}" if name.startswith("_") else name for name in named}
    assert spelled == CODES


@pytest.mark.django_db(transaction=True)
def test_nothing_that_a_portal_refuses_with_is_well(enrolled: Container) -> None:
    save(enrolled.stage, password="one")
    assert enrolled.command("sync").returncode == 0
    with refusing("ok") as address:
        enrolled.home.write_config(replace(enrolled.home.read_config(), portal=address))
        assert enrolled.command("sync").returncode == 71
    assert enrolled.status()["verdict"] == "portal_refused"
