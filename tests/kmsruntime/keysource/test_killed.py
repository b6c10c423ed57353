"""A container that is killed while its key source changes: the next run finishes what was begun, and nothing lies open."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.db.models import F

from atoms import actions as atoms
from atoms.models import NodeCredential
from tests.kmsruntime.byov_machine import HELD, Byov, assert_clean, secrets_of
from tests.kmsruntime.container import bring_your_own_vault, save
from tests.live import ROOT
from vaults.models import Enrolment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def dying(byov: Byov, step: int) -> bool:
    """A sync that kills itself at this step; False when it has no such step and went well."""
    command = [sys.executable, "-m", "tests.kmsruntime.byov_dying", str(step), str(byov.container.directory)]
    done = subprocess.run(
        command, cwd=ROOT, env=byov.environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def recovered(byov: Byov, revision: int, *, mode: str, wrapped: bool) -> None:
    """The next run ends as one that nobody disturbed; nobody is accused."""
    assert byov.get() == HELD, "what is held can be used right after the crash"
    byov.container.sync()
    assert byov.get() == HELD
    assert byov.is_sealed_for(revision, mode=mode, wrapped=wrapped, values=1)
    assert byov.report().verdict == "ok"
    assert not byov.container.home.handover.exists()
    assert byov.container.home.environment.exists() is not wrapped
    assert not Enrolment.objects.filter(state="intruded").exists()
    assert byov.container.sync().result == "unchanged"
    if wrapped:
        assert_clean(byov.container)
        half = byov.container.synchroniser().sealed_state.environment()
        assert (half.exposed, half.sync_exposed, half.next_sync_token) == (False, False, "")


def two_hours_later() -> None:
    """For the portal, which limits how often a container asks for credentials."""
    hours = timedelta(hours=2)
    Enrolment.objects.update(requested_at=F("requested_at") - hours)
    for credential in NodeCredential.objects.all():
        credential.created_at -= hours
        credential.save()


Settings = tuple[str, bool]  # mode, wrapped
HOSTED, PLAIN, WRAPPED = ("hosted", False), ("byov", False), ("byov", True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("before", "after"),
    [(PLAIN, WRAPPED), (WRAPPED, PLAIN), (HOSTED, WRAPPED)],
    ids=["plain to wrapped", "wrapped to plain", "hosted to wrapped"],
)
def test_a_switch_that_is_killed_at_any_step_is_finished_by_the_next_run(
    held: Byov, before: Settings, after: Settings
) -> None:
    file = held.file()

    def ask_for(settings: Settings) -> int:
        mode, wrapped = settings
        vault = file if mode == "byov" else None
        return bring_your_own_vault(held.container.stage, held.atom, vault, wrapped=wrapped)

    step, died = 0, True
    while died:
        step += 1
        two_hours_later()
        ask_for(before)
        held.container.sync()
        earlier = secrets_of(held.container)
        revision = ask_for(after)
        died = dying(held, step)
        recovered(held, revision, mode=after[0], wrapped=after[1])
        if after[1]:
            assert_clean(held.container, earlier)
    assert step > 8


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hand_over_that_is_killed_at_any_step_is_finished_by_the_next_run(wrapped: Byov) -> None:
    """The Atom was moved away and back: its login is destroyed, another one has to be handed over."""
    stage, revision = wrapped.container.stage, wrapped.header().settings_revision
    step, died = 0, True
    while died:
        step += 1
        two_hours_later()
        earlier = secrets_of(wrapped.container)
        atoms.attach(stage.atom, stage.test, actor=stage.alice)
        atoms.attach(stage.atom, stage.production, actor=stage.alice)
        save(stage, {"region": f"step {step}"})
        died = dying(wrapped, step)
        recovered(wrapped, revision, mode="byov", wrapped=True)
        assert_clean(wrapped.container, earlier)
    assert step > 8
