"""The whole portal as processes: worker and web hand a machine its credentials between them."""

import time

import pytest
import requests

from atoms import actions as atoms
from tests.live import LivePortal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def test_the_portal_is_ready(portal: LivePortal) -> None:
    found = requests.get(f"{portal.url}/ready", timeout=5).json()
    assert {found[part] for part in ("database", "vault", "credentials")} == {"ok"}


def test_a_worker_provisions_what_was_requested(portal: LivePortal) -> None:
    made = atoms.create_environment(portal.stage.account, name="Later", classification="TEST", actor=portal.stage.alice)
    deadline = time.monotonic() + 20
    while made.provisioned_at is None and time.monotonic() < deadline:
        time.sleep(0.2)
        made.refresh_from_db()
    assert made.provisioned_at is not None
