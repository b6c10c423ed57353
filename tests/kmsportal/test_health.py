"""What load balancers ask: true, and cheap however often strangers ask it."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from kmsportal import health
from tests.conftest import HostedVault
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from vaults.hosted.credentials import Credentials, read_credentials, write_credentials
from vaults.hosted.sessions import drop_tokens
from vaults.models import HeldCredentials
from vaults.renewal import keep_credentials

pytestmark = pytest.mark.django_db(transaction=True)


def test_strangers_asking_ready_make_no_vault_call_each(settings: Any) -> None:
    with misbehaving(Misbehaving.SERVER_ERROR) as server:
        settings.VAULT_ADDR = server.address
        drop_tokens()
        before = health.calls.health(), len(server.tokens)
        answers = [Client().get("/ready") for _ in range(20)]
        once = before[1]
        assert len(server.tokens) - once <= 2 * once, "once, and once more when the time turns over meanwhile"
        assert {(answer.status_code, answer.json()["vault"]) for answer in answers} == {(503, before[0])}
    drop_tokens()


# -- credentials --------------------------------------------------------------------------------------------------------


def held(hosted_vault: HostedVault, tmp_path: Path, left: timedelta) -> Path:
    """A web server's directory, whose credentials end in so long."""
    directory = tmp_path / "web"
    shutil.copytree(hosted_vault.credentials / "web", directory)
    found = read_credentials(directory)
    ends = datetime.now(UTC) + left
    aged = {name: replace(one, expires=ends) for name, one in found.identities.items()}
    write_credentials(directory, Credentials(found.layout, aged))
    return directory


def answer_of_ready() -> tuple[int, dict[str, Any]]:
    health._parts.cache_clear()
    answer = Client().get("/ready")
    return answer.status_code, answer.json()


def test_ready_says_for_how_many_days_the_credentials_last(
    settings: Any, hosted_vault: HostedVault, tmp_path: Path
) -> None:
    settings.CREDENTIALS = str(held(hosted_vault, tmp_path, timedelta(days=7, hours=1)))
    status, answer = answer_of_ready()
    assert (status, answer["credentials"], answer["credentials_days"]) == (200, "ok", 7)


def test_a_web_server_whose_credentials_ended_is_not_ready(
    settings: Any, hosted_vault: HostedVault, tmp_path: Path
) -> None:
    settings.CREDENTIALS = str(held(hosted_vault, tmp_path, -timedelta(minutes=1)))
    assert answer_of_ready()[1]["credentials"] == "ended"
    settings.CREDENTIALS = str(tmp_path / "nowhere")
    status, answer = answer_of_ready()
    assert (status, answer["credentials"]) == (503, "unreadable")


def test_metrics_tell_until_when_each_process_can_log_in(
    settings: Any, hosted_vault: HostedVault, tmp_path: Path
) -> None:
    """And the look that notes it renews what is due."""
    settings.METRICS_TOKEN = "t" * 32
    settings.CREDENTIALS = str(held(hosted_vault, tmp_path, timedelta(days=7)))
    drop_tokens()
    keep_credentials()
    text = Client(headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"}).get("/metrics").content.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("kms_credentials_expire_seconds{")]
    assert 'process="web"' in line
    assert float(line.split()[-1]) > timedelta(days=31).total_seconds()
    drop_tokens()


def test_what_keeps_credentials_from_being_renewed_is_noted(settings: Any, tmp_path: Path) -> None:
    settings.CREDENTIALS = str(tmp_path / "nowhere")
    keep_credentials()
    noted = HeldCredentials.objects.get()
    assert noted.expires_at is None
    assert str(tmp_path / "nowhere") in noted.trouble
