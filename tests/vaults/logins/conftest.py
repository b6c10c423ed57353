"""What the tests of the login watch and of its alarms begin with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import HostedVault, forget_roles
from vaults.logins import watch


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(watch, "PAUSE_SECONDS", 0)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


@pytest.fixture
def nothing_left(hosted_vault: HostedVault) -> None:
    forget_roles(hosted_vault)
