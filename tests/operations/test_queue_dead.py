"""Redis may die at any moment: pages go on at once, and what was asked for is done when it is back."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from atoms.models import Environment
from operations.models import Operation
from tests.conftest import PASSWORD
from tests.http import Person
from tests.live import LivePortal
from tests.servers import start_valkey

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres, pytest.mark.slow]


def until(ask: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return answer


def test_without_a_queue_everything_is_taken_and_later_done(portal: LivePortal) -> None:
    stage, old = portal.stage, portal.valkey
    assert old is not None
    alice = Person(portal.url, stage.alice.email, PASSWORD)
    account = f"/accounts/{stage.account.code}/"
    dialog = reverse("extensions:environment_extensions", args=[stage.account.code, stage.production.pk])
    old.kill()
    try:
        began = time.monotonic()
        made = alice.post(f"{account}environments/new/", {"name": "While away", "classification": "TEST"})
        assert made.status_code == 302
        form = {"expected_revision": "0", f"secret.{stage.field('password').pk}": "typed meanwhile"}
        assert alice.post(dialog, form).status_code == 302
        assert time.monotonic() - began < 8
        operation = Operation.objects.get(subject_id=Environment.objects.get(name="While away").pk)
        assert operation.state == Operation.State.PENDING
        assert "While away" in alice.get(f"{account}operations/").text
    finally:
        portal.valkey = start_valkey(int(old.url.rsplit(":", 1)[1].split("/")[0]))
        old.stop()
    until(lambda: Environment.objects.get(name="While away").provisioned_at, 40)
    operation.refresh_from_db()
    assert operation.state == Operation.State.DONE
