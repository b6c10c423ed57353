"""A rotation meets a failing vault, another worker, and kill -9 at every step: its end is the same as undisturbed."""

import re
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from operations.models import Operation
from operations.work import LeaseLost, run, sweep
from tests.conftest import HostedVault, Stage
from tests.extensions.test_vault_trouble import own_vault
from tests.faulty_vault import failing_at
from tests.kmsruntime.container import save
from tests.vaults.keys import rotations as look
from tests.vaults.keys.dying import dying_worker, killed_at_every_step, leases_end
from vaults.hosted import calls
from vaults.hosted.sessions import drop_tokens
from vaults.keys.rotation_worker import rotate
from vaults.models import DataKey, Recipient, RecipientRotation

__all__ = ["own_vault"]
pytestmark = pytest.mark.django_db(transaction=True)


def part(operation: Operation) -> RecipientRotation:
    return RecipientRotation.objects.get(operation=operation)


@pytest.mark.parametrize(
    ("part_of_path", "applied"),
    [("/rotate", False), ("/rotate", True), ("rewrap/", False), ("datakeys/data", False), ("datakeys/data", True)],
)
def test_a_vault_that_fails_halfway_is_waited_for(
    stage: Stage, hosted_vault: HostedVault, settings: Any, part_of_path: str, applied: bool
) -> None:
    """500, whether it did what was asked or not: afterwards all is as if nothing had happened."""
    look.filled(hosted_vault, stage.production, 450)
    operation = look.rotate(stage, stage.production)
    with failing_at(hosted_vault.address, part_of_path, applied=applied) as address:
        settings.VAULT_ADDR = address
        drop_tokens()
        sweep()
        operation.refresh_from_db()
        assert (operation.state, operation.error_code) == (Operation.State.WAITING, "vault_failing")
    settings.VAULT_ADDR = hosted_vault.address
    drop_tokens()
    look.finished(operation)
    assert look.versions(hosted_vault, stage.production) == {2: 450}
    assert look.key(hosted_vault, stage.production) == (2, 2)
    assert part(operation).rewrapped == 450


def test_a_vault_that_is_down_is_waited_for(stage: Stage, hosted_vault: HostedVault, settings: Any) -> None:
    operation = look.rotate(stage, stage.production)
    settings.VAULT_ADDR = "http://127.0.0.1:1"
    drop_tokens()
    sweep()
    operation.refresh_from_db()
    assert (operation.state, operation.error_code) == (Operation.State.WAITING, "vault_unreachable")
    settings.VAULT_ADDR = hosted_vault.address
    drop_tokens()
    look.finished(operation)
    assert look.key(hosted_vault, stage.production) == (2, 2)


def unseal_key(vault: HostedVault) -> str:
    """Dev mode writes it to its log, in its own time."""
    for _ in range(100):
        found = re.search(r"Unseal Key: (\S+)", (vault.server.directory / "log").read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise AssertionError("no key in the vault's log")


def test_a_vault_that_is_sealed_between_the_readings_is_waited_for(own_vault: tuple[HostedVault, Stage]) -> None:
    vault, stage = own_vault
    look.filled(vault, stage.production, 10)
    operation = look.rotate(stage, stage.production)
    sweep()
    vault.root.call("PUT", "sys/seal", {})
    past = timezone.now() - timedelta(seconds=1)
    RecipientRotation.objects.update(settle_at=past)
    Operation.objects.filter(pk=operation.pk).update(run_after=past)
    sweep()
    operation.refresh_from_db()
    assert (operation.state, operation.error_code) == (Operation.State.WAITING, "vault_sealed")
    vault.root.call("PUT", "sys/unseal", {"key": unseal_key(vault)})
    look.finished(operation)
    assert look.versions(vault, stage.production) == {2: 10}
    assert look.key(vault, stage.production) == (2, 2)


def test_a_worker_whose_lease_ended_changes_nothing_any_more(stage: Stage, hosted_vault: HostedVault) -> None:
    """Two workers at once: the slow one stops at its next step, and the rows only ever go on."""
    look.filled(hosted_vault, stage.production, 10)
    operation = look.rotate(stage, stage.production)
    slow = Operation.claim(operation.pk)
    assert slow is not None
    Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    look.finished(operation)
    RecipientRotation.objects.update(state="pending")
    with pytest.raises(LeaseLost):
        rotate(slow)
    assert look.key(hosted_vault, stage.production) == (2, 2)


def test_the_same_message_twice_rotates_once(stage: Stage, hosted_vault: HostedVault) -> None:
    operation = look.rotate(stage, stage.production)
    assert run(operation.pk) is True
    assert run(operation.pk) is False
    look.finished(operation)
    assert run(operation.pk) is False
    assert look.key(hosted_vault, stage.production) == (2, 2)


@pytest.mark.slow
def test_a_worker_killed_at_the_second_reading_never_makes_the_wait_for_a_late_one_shorter(
    stage: Stage, hosted_vault: HostedVault
) -> None:
    """Whoever goes on finds it rewrapped already; a runtime may have read the old one a moment ago all the same."""
    name = str(stage.production.pk)
    look.filled(hosted_vault, stage.production, 3)
    past = timezone.now() - timedelta(seconds=1)
    with dying_worker(hosted_vault, KMS_ROTATION_SETTLE_SECONDS="600") as worker:
        number, lived = 0, None
        while lived is None:
            number += 1
            late = hosted_vault.root.new_data_key("intransit", name).wrapped
            operation = look.rotate(stage, stage.production)
            sweep()
            calls.store_wrapped_keys(look.recipient_of(stage.production), 0, {str(uuid.uuid4()): late})
            RecipientRotation.objects.filter(operation=operation).update(settle_at=past)
            Operation.objects.filter(pk=operation.pk).update(run_after=past)
            lived = worker.sweep(number)
            leases_end()
            worker.sweep()
            row = part(operation)
            assert (row.state, row.late > 0) == ("rewrapped", True), number
            assert row.settle_at is not None
            assert row.settle_at > timezone.now() + timedelta(seconds=30)
            assert look.opens(hosted_vault, stage.production, late)
            look.finished(operation)
            assert not look.opens(hosted_vault, stage.production, late)
    assert number > 8


@pytest.mark.slow
def test_a_worker_killed_at_any_step_leaves_the_same_end(stage: Stage, hosted_vault: HostedVault) -> None:
    """The end state after kill -9 equals an undisturbed run's: versions, documents, counts, what is refused."""
    look.filled(hosted_vault, stage.production, 410)
    save(stage, password="one")
    sealed = look.ciphertexts()
    environments = (stage.production,)

    def begin() -> tuple[Operation, int]:
        latest = look.key(hosted_vault, stage.production)[0]
        return look.rotate(stage, *environments), latest

    def check(begun: tuple[Operation, int]) -> None:
        operation, before = begun
        operation.refresh_from_db()
        assert (operation.state, operation.failed, operation.error_code) == (Operation.State.DONE, 0, "")
        for row in environments:
            assert look.key(hosted_vault, row) == (before + 1, before + 1)
            stored = Recipient.objects.get(pk=row.pk)
            assert (stored.in_transit_version, stored.oldest_version) == (before + 1, before + 1)
        assert look.versions(hosted_vault, stage.production) == {before + 1: 411}
        keys = DataKey.objects.filter(recipient=stage.production.pk)
        assert set(keys.values_list("key_version", flat=True)) == {before + 1}
        result = {name: count for name, count in operation.details.items() if name != "recipients"}
        assert result == {"keys": 1, "rewrapped": 411, "late": 0, "broken": 0, "skipped": 0}
        assert (operation.done, operation.total) == (411, 411)
        told = AuditEntry.objects.filter(action="ROTATED", properties__operation=str(operation.pk))
        assert told.count() == 1

    with dying_worker(hosted_vault, KMS_ROTATION_SETTLE_SECONDS="0") as worker:
        died = killed_at_every_step(worker, begin, check)
    assert died > 20
    assert look.ciphertexts() == sealed


def test_slow_saves_are_felt_by_bulk_work(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """People's own vault calls tell it, nobody else's."""
    from operations import load

    monkeypatch.setattr(load, "SLOW_SECONDS", -1.0)
    load._calls.clear()
    calls.roles("environments")
    assert not load.is_high()
    for number in range(3):
        save(stage, password=f"value {number}")
    assert load.is_high()
