"""Deleting an environment: what its page told of is deleted, and nothing that was saved since."""

import re
from typing import Any

import pytest
from django.urls import reverse

from atoms import actions as atoms
from atoms.models import Environment
from extensions.actions import save_extensions
from extensions.models import ExtensionValue
from extensions.plan import FieldChange, PropertyChange
from extensions.secret import Secret
from tests.conftest import HostedVault, Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def address(stage: Stage) -> str:
    return reverse("atoms:environment_delete", args=[stage.account.code, stage.test.pk])


def shown(answer: Any) -> str:
    """What the page sends back of what it told."""
    assert answer.status_code == 200
    found = re.search(r'name="lost" value="([0-9]+)"', answer.content.decode())
    assert found is not None
    return found[1]


def saved(stage: Stage, revision: int, value: str) -> None:
    changes = [FieldChange(stage.field("password"), "secret", Secret(value))]
    save_extensions(stage.test, changes, [PropertyChange("p", value)], expected_revision=revision, actor=stage.alice)


@pytest.mark.parametrize("before", [0, 1])
def test_what_was_saved_since_the_page_was_read_stays(stage: Stage, hosted_vault: HostedVault, before: int) -> None:
    client = stage.cast.client("alice")
    if before:
        saved(stage, 0, "first")
    read = shown(client.get(address(stage)))
    saved(stage, before, "saved since")
    for typed in ({"lost": read}, {"lost": ""}, {"lost": "99"}, {"lost": "\uff11"}, {"lost": f"{before + 1} "}, {}):
        answer = client.post(address(stage), {"name": "Test"} | typed)
        text = answer.content.decode()
        assert "Nothing was deleted. What goes is not what you confirmed" in text
        assert "(3 fields, 1 process properties)" in text
        assert 'value="Test"' in text
        assert ExtensionValue.objects.filter(environment=stage.test, form="sealed").exists()
    assert client.post(address(stage), {"name": "Test", "lost": shown(answer)}).status_code == 302
    assert not Environment.objects.filter(pk=stage.test.pk).exists()


def test_an_environment_that_holds_nothing_goes_as_it_was_shown(stage: Stage) -> None:
    client = stage.cast.client("alice")
    assert client.post(address(stage), {"name": "Test", "lost": shown(client.get(address(stage)))}).status_code == 302


def test_the_action_deletes_no_other_revision(stage: Stage, hosted_vault: HostedVault) -> None:
    saved(stage, 0, "first")
    with pytest.raises(atoms.EnvironmentChanged):
        atoms.delete_environment(stage.test, expected_revision=0, actor=stage.alice)
    assert ExtensionValue.objects.filter(environment=stage.test, form="sealed").exists()
