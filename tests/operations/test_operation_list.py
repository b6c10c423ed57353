"""The operations page shows nothing about environments the member does not see."""

import pytest
from django.urls import reverse

from accounts.models import Role
from atoms import actions as atoms
from atoms.models import Atom, Environment
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


def falcon(stage: Stage, atom_in_it: bool = True) -> tuple[Environment, Atom]:
    """An environment that Bob does not see, and an Atom."""
    hidden = atoms.create_environment(stage.account, name="Project Falcon", classification="TEST", actor=stage.alice)
    atoms.set_environment_roles(hidden, [Role.objects.get(name="Support")], actor=stage.alice)
    place = hidden if atom_in_it else None
    atom = atoms.create_atom(stage.account, name="Falcon box", type="ATOM", environment=place, actor=stage.alice)
    return hidden, atom


def seen_by(stage: Stage, name: str) -> str:
    url = reverse("operations:operation_list", args=[stage.account.code])
    return str(stage.cast.client(name).get(url).content.decode())


def test_it_stays_hidden_when_the_environment_is_deleted(stage: Stage) -> None:
    hidden, atom = falcon(stage)
    atoms.delete_atom(atom, actor=stage.alice)
    atoms.delete_environment(hidden, expected_revision=0, actor=stage.alice)
    assert "Falcon" not in seen_by(stage, "bob")
    assert "environment Project Falcon" in seen_by(stage, "alice")


def test_it_is_hidden_once_its_atom_is_attached_to_a_hidden_environment(stage: Stage) -> None:
    hidden, atom = falcon(stage, atom_in_it=False)
    assert "Falcon box" in seen_by(stage, "bob")
    atoms.attach(atom, hidden, actor=stage.alice)
    assert "Falcon" not in seen_by(stage, "bob")
