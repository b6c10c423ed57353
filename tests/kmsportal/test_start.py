"""A production process does not start with another one's credentials, nor with a clock that is wrong; here at a real vault."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from kmsportal import start
from tests.conftest import HostedVault
from vaults.hosted.calls import drop_tokens


@pytest.fixture(autouse=True)
def production(settings: Any, hosted_vault: HostedVault) -> None:
    settings.PRODUCTION = True


def holding(settings: Any, vault: HostedVault, name: str) -> None:
    settings.VAULT_CREDENTIALS = str(vault.credentials / name)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("worker.json", "web.json"),
        ("web.json", "worker.json"),
        ("shredder.json", "worker.json"),
        ("all.json", "web.json"),
    ],
)
def test_no_process_starts_with_anothers_credentials(
    settings: Any, hosted_vault: HostedVault, held: str, wanted: str
) -> None:
    holding(settings, hosted_vault, held)
    name = "another set" if held == "all.json" else held
    with pytest.raises(ImproperlyConfigured, match=f"holds {name}, and this process is to have {wanted} alone"):
        start.check(wanted)


@pytest.mark.parametrize("name", ["web.json", "worker.json", "shredder.json"])
def test_it_starts_with_its_own(settings: Any, hosted_vault: HostedVault, name: str) -> None:
    holding(settings, hosted_vault, name)
    start.check(name)


def test_a_missing_file_is_said(settings: Any) -> None:
    settings.VAULT_CREDENTIALS = "/not/there.json"
    with pytest.raises(ImproperlyConfigured, match=r"KMS_VAULT_CREDENTIALS: /not/there.json cannot be read"):
        start.check("web.json")


@pytest.mark.parametrize(("minutes", "says"), [(2, "ahead of"), (-2, "behind")])
def test_a_clock_that_is_wrong_is_said(settings: Any, hosted_vault: HostedVault, minutes: int, says: str) -> None:
    holding(settings, hosted_vault, "web.json")
    with (
        time_machine.travel(timezone.now() + timedelta(minutes=minutes)),
        pytest.raises(ImproperlyConfigured, match=f"s {says} the vault's"),
    ):
        start.check("web.json")


def test_a_vault_that_does_not_answer_is_waited_for(settings: Any, hosted_vault: HostedVault) -> None:
    holding(settings, hosted_vault, "web.json")
    settings.VAULT_ADDR = "http://127.0.0.1:1"
    drop_tokens()
    start.check("web.json")


def test_a_shred_worker_is_one_that_does_nothing_else() -> None:
    assert [start.file_of(one) for one in (["shred"], ["interactive"], ["bulk"], ["interactive", "shred"])] == [
        *("shredder.json", "worker.json", "worker.json", "worker.json")
    ]
