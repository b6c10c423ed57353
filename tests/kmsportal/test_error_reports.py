"""S2: whatever fails while a secret is handled, neither report nor log has what was typed."""

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.core.signals import got_request_exception
from django.db import connections
from django.test import Client
from django.views.debug import get_exception_reporter_class

from extensions import values
from kmscore.sealed import envelope
from kmscore.vaultclient.http import HttpClient
from tests.conftest import Stage
from tests.extensions.dialog import Dialog

pytestmark = pytest.mark.django_db(transaction=True)
CANARY = "canary-4f9c2a71e0b3-typed"


class Broken(Exception):
    pass


@pytest.fixture
def reports() -> Iterator[list[str]]:
    """Every report Django would write about a failed request: as text and as HTML."""
    written: list[str] = []

    def write(sender: object, request: Any, **_: object) -> None:
        for mail in (True, False):
            reporter = get_exception_reporter_class(request)(request, *sys.exc_info(), is_email=mail)
            written.extend((reporter.get_traceback_text(), reporter.get_traceback_html()))

    got_request_exception.connect(write)
    yield written
    got_request_exception.disconnect(write)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the portal's own handlers write, everything down to DEBUG."""
    root = logging.getLogger()
    stream, level = io.StringIO(), root.level
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_portal_formatter())
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def _portal_formatter() -> logging.Formatter:
    from kmsportal import logs

    before = logging.getLogger().handlers
    logs.configure({"level": "DEBUG", "json": True})
    formatter = logging.getLogger().handlers[0].formatter
    logging.getLogger().handlers = before
    assert isinstance(formatter, structlog.stdlib.ProcessorFormatter)
    return formatter


def failing_cipher(patch: pytest.MonkeyPatch) -> None:
    class Cipher:
        def __init__(self, key: bytes) -> None: ...

        def encrypt(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
            raise Broken

    patch.setattr(envelope, "AESGCM", Cipher)


def failing_http(patch: pytest.MonkeyPatch) -> None:
    def request(*_: object, **__: object) -> None:
        raise Broken

    patch.setattr(HttpClient, "request", request)


def failing_database(patch: pytest.MonkeyPatch) -> None:
    def execute(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "extensions_extensionvalue" in sql and sql.startswith("INSERT"):
            raise Broken
        return run(sql, params, many, context)

    patch.setattr(connections["default"], "execute_wrappers", [execute])


def failing_form(patch: pytest.MonkeyPatch) -> None:
    """While the form judges the text, before it is wrapped as a Secret."""

    class Pattern:
        def fullmatch(self, text: str) -> None:
            raise Broken

    patch.setattr(values, "_PLACEHOLDER", Pattern())


@pytest.mark.parametrize("fail", [failing_cipher, failing_http, failing_database, failing_form])
def test_no_report_has_what_was_typed(
    stage: Stage, reports: list[str], log: io.StringIO, monkeypatch: pytest.MonkeyPatch, fail: Any
) -> None:
    dialog = Dialog(stage)
    dialog.client.raise_request_exception = False
    fail(monkeypatch)
    answer = dialog.post(secret_password=CANARY)
    assert answer.status_code == 500
    assert len(reports) == 4
    for text in (*reports, log.getvalue(), answer.content.decode()):
        assert CANARY not in text
    assert all("Broken" in report for report in reports)
    assert "Broken" in log.getvalue()
    assert "Broken" not in answer.content.decode()


def test_no_report_has_a_password(stage: Stage, reports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(raise_request_exception=False)
    monkeypatch.setattr("allauth.account.auth_backends.AuthenticationBackend.authenticate", failing_authentication)
    answer = client.post("/auth/login/", {"login": stage.alice.email, "password": CANARY})
    assert answer.status_code == 500
    assert reports
    assert not [report for report in reports if CANARY in report]


def failing_authentication(self: object, request: object, **credentials: str) -> None:
    raise Broken
