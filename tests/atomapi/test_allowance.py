"""A container that asks without end is put off, and no other one is."""

from typing import Any

import pytest

from atomapi import allowance
from kmsruntime.disk import credentials
from kmsruntime.errors import PortalUnavailable
from kmsruntime.remote.portal import Portal
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
    portal, half = Portal(enrolled.home.read_config().portal), credentials.read_environment(enrolled.home)
    answers = [asked(portal, half.sync_token) for _ in range(250)]
    assert answers[:90] == ["answered"] * 90
    assert answers[-1] == "portal_busy"
    other.sync()


def asked(portal: Portal, token: str) -> str:
    try:
        portal.post("selfcheck", token, {})
    except PortalUnavailable as put_off:
        return put_off.code
    return "answered"


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
