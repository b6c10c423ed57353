"""The operations page shows nothing about environments the member does not see."""

import pytest
from django.urls import reverse

from accounts.models import Role
from atoms import actions as atoms
from tests.conftest import Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def test_a_hidden_environments_work_is_hidden(stage: Stage) -> None:
    url = reverse("operations:operation_list", args=[stage.account.code])
    bob, alice = stage.cast.client("bob"), stage.cast.client("alice")
    assert "environment Production" in bob.get(url).content.decode()
    atoms.set_environment_roles(stage.production, [Role.objects.get(name="Support")], actor=stage.alice)
    seen = bob.get(url).content.decode()
    assert "environment Test" in seen
    assert "Production" not in seen
    assert stage.atom.name not in seen
    assert "environment Production" in alice.get(url).content.decode()
