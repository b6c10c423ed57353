"""The self-check on the container: by the daemon, with a wrapped encryption key, and beside whatever goes wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from kmsruntime.disk.state import read_state
from kmsruntime.status.selfcheck import EVERY_SECONDS, SOON_SECONDS, read
from tests.customer import CustomersVault
from tests.kmsruntime.byov_machine import Byov
from tests.kmsruntime.container import Container, save
from tests.kmsruntime.test_daemon import until
from tests.live import ROOT
from vaults.models import SelfCheckResult

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def running(enrolled: Container) -> Iterator[Container]:
    """The daemon at work."""
    words = enrolled.words("run", "--poll", "0.5")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=enrolled.environment())
    yield enrolled
    process.kill()
    process.wait()


def test_the_daemon_proves_it_soon_after_its_start(running: Container) -> None:
    until(lambda: SelfCheckResult.objects.exclude(proved_at=None).exists(), 30)
    save(running.stage, password="and syncs")
    until(lambda: running.home.store.exists() and "and syncs" in running.values().values())


def test_a_sync_from_a_timer_checks_when_the_last_one_is_five_minutes_old(enrolled: Container) -> None:
    def asked() -> object:
        assert enrolled.command("sync").returncode == 0
        return SelfCheckResult.objects.get().asked_at

    first = asked()
    assert asked() == first
    state = read_state(enrolled.home)
    past = state.self_checked - int(EVERY_SECONDS) - 1
    path = enrolled.home.state
    path.write_text(path.read_text().replace(f'"self_checked":{state.self_checked}', f'"self_checked":{past}'))
    assert asked() != first


def test_a_wrapped_container_skips_it_until_its_store_is_open(
    enrolled: Container, customers_vault: CustomersVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_CACERT", str(customers_vault.ca))
    save(enrolled.stage, password="one")
    Byov(enrolled, customers_vault, enrolled.stage.atom).turn_on(wrapped=True)
    synchroniser = enrolled.synchroniser()
    synchroniser.sync()
    assert synchroniser.self_check.run() == EVERY_SECONDS
    SelfCheckResult.objects.update(asked_at=timezone.now() - timedelta(hours=1), proved_at=None)
    closed = enrolled.synchroniser()
    assert not closed.sealed_state.is_open()
    assert closed.self_check.run() == EVERY_SECONDS
    assert SelfCheckResult.objects.get().proved_at is None
    closed.sync()
    closed.self_check.run()
    assert SelfCheckResult.objects.get().proved_at is not None


def test_a_portal_or_a_vault_that_is_down_raises_nothing(enrolled: Container) -> None:
    from dataclasses import replace

    enrolled.sync()
    config = enrolled.home.read_config()
    for wrong, wait in (("portal", EVERY_SECONDS), ("vault", SOON_SECONDS)):
        enrolled.home.write_config(replace(config, **{wrong: "http://127.0.0.1:1"}))
        assert enrolled.synchroniser().self_check.run() == wait
    assert SelfCheckResult.objects.get().code == "vault_unreachable"


def test_an_answer_that_is_no_test_value_is_refused() -> None:
    whole = {"environment": "e", "data_key": "k", "document": 0, "revision": 1, "sealed": "AA==", "challenge": "00"}
    assert read(whole).challenge == b"\0"
    for name in whole:
        with pytest.raises(ValueError, match="not a test value"):
            read({key: value for key, value in whole.items() if key != name})
    odd = [(name, value) for name in ("document", "revision") for value in (None, "0", True, -1, 1.5, 2**63)]
    odd += [("environment", 7), ("data_key", None)]
    for name, value in (("sealed", "%"), ("sealed", 3), ("challenge", "zz"), *odd):
        with pytest.raises(ValueError, match="not a test value"):
            read({**whole, name: value})
