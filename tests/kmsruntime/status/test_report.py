"""What a container tells the portal of itself."""

from __future__ import annotations

import os
import socket

import orjson
import pytest

from kmsruntime.status.report import report_of
from tests.kmsruntime.pieces import header


def test_a_machine_of_any_name_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no text ended every sync in what nobody had foreseen."""
    monkeypatch.setattr(socket, "gethostname", lambda: os.fsdecode(b"caf\xe9"))
    assert b"caf\\\\udce9" in orjson.dumps(report_of(header(), 1, "ok", ""))
