"""One account has so many environments, Atoms and connections, and no more: said on the form, with what was typed."""

from typing import Any

import pytest
from django.urls import reverse

from tests.conftest import Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
FORMS = {
    "environments": ("atoms:environment_create", {"name": "One too many", "classification": "TEST"}),
    "Atoms": ("atoms:atom_create", {"name": "One too many", "type": "ATOM", "minutes": ""}),
    "connections": (
        "extensions:connection_create",
        {
            **{"name": "One too many", "version": "", "fields-TOTAL_FORMS": "1", "fields-INITIAL_FORMS": "0"},
            **{"fields-0-key": "host", "fields-0-label": "Host", "fields-0-extensible": "on"},
        },
    ),
}


@pytest.mark.parametrize("noun", FORMS)
def test_one_more_than_allowed_is_refused_with_what_was_typed(stage: Stage, settings: Any, noun: str) -> None:
    route, form = FORMS[noun]
    rows = getattr(stage.account, noun.lower())
    settings.QUOTAS = settings.QUOTAS | {noun: rows.count()}
    path, alice = reverse(route, args=[stage.account.code]), stage.cast.client("alice")
    page = alice.post(path, form).content.decode()
    assert f"An account has at most {rows.count():,} {noun}." in page
    assert "One too many" in page
    assert not rows.filter(name="One too many").exists()
    settings.QUOTAS = settings.QUOTAS | {noun: rows.count() + 1}
    assert alice.post(path, form).status_code == 302
    assert rows.filter(name="One too many").exists()
