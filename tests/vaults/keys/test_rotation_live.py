"""A rotation while people save and containers sync: nobody notices, every value opens after, the old version is refused."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection
from django.urls import reverse
from requests.adapters import HTTPAdapter

from atoms import actions as atoms
from atoms.models import Environment
from operations.models import Operation
from operations.work import sweep
from tests.conftest import PASSWORD, HostedVault
from tests.http import Person
from tests.kmsruntime.conftest import Enrolled, another
from tests.kmsruntime.container import Container
from tests.live import LivePortal
from tests.vaults.keys import rotations as look
from vaults.models import DataKey, RecipientRotation

__all__ = ["another"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
SAVERS, CONTAINERS = 45, 5


@contextmanager
def settling_in(portal: LivePortal, seconds: int) -> Iterator[None]:
    """A worker that waits so long for saves in flight."""
    name = "KMS_ROTATION_SETTLE_SECONDS"
    portal.environment[name] = str(seconds)
    portal.kill("worker")
    portal.start("worker")
    try:
        yield
    finally:
        del portal.environment[name]
        portal.kill("worker")
        portal.start("worker")


@dataclass
class Crowd:
    """Threads that go on until they are told to stop. `failures`: what any of them saw and should not have."""

    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)
    saved: dict[str, set[str]] = field(default_factory=dict)
    conflicts: int = 0
    syncs: int = 0
    threads: list[threading.Thread] = field(default_factory=list)

    def add(self, act: Callable[[int], None], pause: float) -> None:
        def go_on() -> None:
            number = 0
            while not self.stop.is_set():
                number += 1
                try:
                    act(number)
                except Exception as error:  # noqa: BLE001 (any is one too many)
                    self.failures.append(f"{type(error).__name__}: {error}")
                self.stop.wait(pause)
            connection.close()

        thread = threading.Thread(target=go_on)
        self.threads.append(thread)
        thread.start()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def saver(
    crowd: Crowd, person: Person, portal: LivePortal, environment: Environment, who: int
) -> Callable[[int], None]:
    """Saves a secret over HTTP, from the revision it sees; somebody else's save in between is told, and done again."""
    code, key = portal.stage.account.code, portal.stage.field("password").pk
    path = reverse("extensions:environment_extensions", args=[code, environment.pk])

    def save(number: int) -> None:
        value = f"canary-{who}-{number}"
        crowd.saved[environment.name].add(value)
        for _ in range(50):
            revision = Environment.objects.values_list("extensions_revision", flat=True).get(pk=environment.pk)
            answer = person.post(path, {"expected_revision": str(revision), f"secret.{key}": value})
            if answer.status_code == 302:
                return
            if answer.status_code != 409:
                crowd.failures.append(f"a save was answered with {answer.status_code}")
                return
            crowd.conflicts += 1
        crowd.failures.append("50 conflicts in a row")

    return save


def syncer(crowd: Crowd, machine: Container) -> Callable[[int], None]:
    synchroniser = machine.synchroniser()

    def sync(number: int) -> None:
        synchroniser.sync()
        crowd.syncs += 1

    return sync


def places(portal: LivePortal, another: Enrolled) -> Iterator[tuple[Environment, Container]]:
    """Environments with an Atom and a container each."""
    stage = portal.stage
    for number in range(CONTAINERS):
        environment = atoms.create_environment(
            stage.account, name=f"Place {number}", classification="TEST", actor=stage.alice
        )
        atom = atoms.create_atom(
            stage.account, name=f"Atom {number}", type="ATOM", environment=environment, actor=stage.alice
        )
        sweep()
        yield environment, another(f"container{number}", atom)


def _refreshed(row: Any) -> Any:
    row.refresh_from_db()
    return row


def until(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def test_a_rotation_during_fifty_concurrent_saves_and_syncs_is_noticed_by_nobody(
    portal: LivePortal, hosted_vault: HostedVault, another: Enrolled
) -> None:
    scene = list(places(portal, another))
    person = Person(portal.url, portal.stage.alice.email, PASSWORD)
    person.session.mount("http://", HTTPAdapter(pool_maxsize=SAVERS))
    crowd = Crowd(saved={environment.name: set() for environment, _ in scene})
    with settling_in(portal, 2):
        for who in range(SAVERS):
            crowd.add(saver(crowd, person, portal, scene[who % CONTAINERS][0], who), 1.0)
        for _, machine in scene:
            crowd.add(syncer(crowd, machine), 0.3)
        try:
            until(lambda: crowd.syncs > 5 and all(look.entries(hosted_vault, place) for place, _ in scene), 30)
            before = {place.pk: look.entries(hosted_vault, place) for place, _ in scene}
            known = DataKey.objects.filter(recipient__in=before).count()
            assert person.post(reverse("vaults:rotate_all", args=[portal.stage.account.code]), {}).status_code == 302
            operation = Operation.objects.get(kind="vaults.rotate")
            until(lambda: _refreshed(operation).is_finished, 120)
        finally:
            crowd.end()
    assert crowd.failures == []
    assert (operation.state, operation.failed) == (Operation.State.DONE, 0), operation.error_sentence
    rewrapped = sum(RecipientRotation.objects.filter(operation=operation).values_list("rewrapped", flat=True))
    assert rewrapped >= known > 0
    for place, machine in scene:
        assert look.key(hosted_vault, place) == (2, 2)
        assert set(look.versions(hosted_vault, place)) == {2}
        entries = look.entries(hosted_vault, place)
        assert all(look.opens(hosted_vault, place, wrapped) for wrapped in entries.values())
        assert not any(look.opens(hosted_vault, place, wrapped) for wrapped in before[place.pk].values())
        machine.sync()
        assert len(crowd.saved[place.name].intersection(machine.values().values())) == 1
        header = machine.synchroniser().sealed_state.header()
        assert header is not None
        assert header.revision == _refreshed(place).extensions_revision
    assert "vault:v" not in portal.logs()
