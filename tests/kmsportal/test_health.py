"""What load balancers ask: true, and cheap however often strangers ask it."""

from typing import Any

import pytest
from django.test import Client

from kmsportal import health
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from vaults.hosted.sessions import drop_tokens

pytestmark = pytest.mark.django_db(transaction=True)


def test_strangers_asking_ready_make_no_vault_call_each(settings: Any) -> None:
    with misbehaving(Misbehaving.SERVER_ERROR) as server:
        settings.VAULT_ADDR = server.address
        drop_tokens()
        before = health.calls.health(), len(server.tokens)
        answers = [Client().get("/ready") for _ in range(20)]
        once = before[1]
        assert len(server.tokens) - once <= 2 * once, "once, and once more when the time turns over meanwhile"
        assert {(answer.status_code, answer.json()["vault"]) for answer in answers} == {(503, before[0])}
    drop_tokens()
