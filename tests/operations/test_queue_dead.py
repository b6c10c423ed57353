"""Redis may die at any moment, or be another's: pages go on at once, and what was asked for is done all the same."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.urls import reverse

from atoms.models import Environment
from operations.models import Operation
from tests.conftest import PASSWORD
from tests.http import Person
from tests.live import LivePortal
from tests.operations.queues import dripping, refusing, swallowing, through
from tests.servers import start_valkey

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres, pytest.mark.slow]


def until(ask: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return answer


def make_environment(portal: LivePortal, person: Person, name: str) -> None:
    path = f"/accounts/{portal.stage.account.code}/environments/new/"
    assert person.post(path, {"name": name, "classification": "TEST"}).status_code == 302


def is_made(name: str) -> bool:
    return Environment.objects.get(name=name).provisioned_at is not None


def test_without_a_queue_everything_is_taken_and_done(portal: LivePortal) -> None:
    stage, old = portal.stage, portal.valkey
    assert old is not None
    alice = Person(portal.url, stage.alice.email, PASSWORD)
    dialog = reverse("extensions:environment_extensions", args=[stage.account.code, stage.production.pk])
    old.kill()
    try:
        began = time.monotonic()
        make_environment(portal, alice, "While away")
        form = {"expected_revision": "0", f"secret.{stage.field('password').pk}": "typed meanwhile"}
        assert alice.post(dialog, form).status_code == 302
        assert time.monotonic() - began < 8
        assert "While away" in alice.get(f"/accounts/{stage.account.code}/operations/").text
        until(lambda: is_made("While away"), 15)
        portal.kill("worker")
        portal.start("worker")
        make_environment(portal, alice, "Started without it")
        until(lambda: is_made("Started without it"), 20)
    finally:
        portal.valkey = start_valkey(int(old.url.rsplit(":", 1)[1].split("/")[0]))
        old.stop()
    assert portal.processes["worker"].poll() is None
    assert not Operation.objects.unfinished().exists()


@pytest.mark.parametrize(("queue", "seconds"), [(swallowing, 45), (refusing, 15), (dripping, 15)])
def test_a_hostile_queue_delays_and_prevents_nothing(
    portal: LivePortal, queue: Callable[[str], AbstractContextManager[str]], seconds: float
) -> None:
    assert portal.valkey is not None
    with queue(portal.valkey.url) as url, through(portal, url):
        alice = Person(portal.url, portal.stage.alice.email, PASSWORD)
        began = time.monotonic()
        make_environment(portal, alice, "While it is another's")
        assert time.monotonic() - began < 8
        until(lambda: is_made("While it is another's"), seconds)
        assert portal.processes["worker"].poll() is None
