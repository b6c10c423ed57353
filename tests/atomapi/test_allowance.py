"""A container that asks without end is put off, and no other one is."""

from typing import Any

import pytest
from django.test import Client

from atomapi import allowance
from kmsruntime.disk import credentials
from tests.kmsruntime.conftest import Enrolled, another, container, enrolled
from tests.kmsruntime.container import Container, save

__all__ = ["another", "container", "enrolled"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def test_asking_without_end_is_put_off_for_that_container_alone(
    enrolled: Container, another: Enrolled, settings: Any
) -> None:
    """257 self-checks in 3 seconds, each a write, were once answered."""
    save(enrolled.stage, password="canary")
    enrolled.sync()
    other = another("other", enrolled.stage.second)
    settings.ATOM_REQUESTS_PER_SECOND = 1  # ten at once; however slow this machine is, it asks more often
    answers = [asked(enrolled) for _ in range(60)]
    assert set(answers[:9]) == {200}
    assert answers[-1] == 429
    assert asked(other) != 429


def asked(machine: Container) -> int:
    """The status of a self-check that this machine asks for, of the portal in this process."""
    token = credentials.read_environment(machine.home).sync_token
    headers = {"authorization": f"Bearer {token}"}
    return Client(headers=headers).post("/api/atom/v1/selfcheck", {}, content_type="application/json").status_code


def test_what_is_left_comes_back_with_time(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from uuid import uuid4

    from kmscore.refused import Refused

    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    settings.ATOM_REQUESTS_PER_SECOND = 2
    node = uuid4()
    for _ in range(20):
        allowance.take(node)
    with pytest.raises(Refused):
        allowance.take(node)
    now[0] += 1
    allowance.take(node)
    allowance.take(node)
    with pytest.raises(Refused):
        allowance.take(node)
    allowance.take(uuid4())
