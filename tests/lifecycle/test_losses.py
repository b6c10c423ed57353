"""What the vault has lost is named, entered again, and takes nothing else with it."""

import pytest

from extensions.actions import republish
from runtime.errors import RevisionLower, ValueMissing
from runtime.giving import find, value_of
from tests.runtime.conftest import *  # noqa: F403 (its fixtures)
from tests.runtime.conftest import Enrolled
from tests.runtime.container import Container, save
from vaults.losses import mark_lost, unmark
from vaults.models import DataKey, Loss

pytestmark = pytest.mark.django_db(transaction=True)


def key_of(container: Container, key: str) -> DataKey:
    found: DataKey = container.stage.production.extension_values.get(field__key=key).data_key
    return found


def lose(container: Container, key: str, because: str) -> None:
    assert mark_lost(DataKey.objects.filter(pk=key_of(container, key).pk), because) == 1
    container.stage.production.refresh_from_db()
    republish(container.stage.production, above=0, actor="operator")


@pytest.fixture
def holding(enrolled: Container) -> Container:
    """Two secrets, each saved alone, so that each has a data key of its own."""
    save(enrolled.stage, password="lost one")
    save(enrolled.stage, apiKey="kept one")
    enrolled.sync()
    return enrolled


def test_a_container_keeps_what_the_vault_lost_in_a_restore(holding: Container) -> None:
    lose(holding, "password", DataKey.Loss.RESTORED)
    assert holding.sync().result == "updated"
    assert holding.values()["Orders database/password"] == "lost one"
    assert holding.values()["Orders database/apiKey"] == "kept one"


def test_a_new_container_goes_without_it_and_says_what_to_do(holding: Container, another: Enrolled) -> None:
    lose(holding, "password", DataKey.Loss.RESTORED)
    fresh = another("fresh", holding.stage.second)
    fresh.sync()
    assert fresh.values()["Orders database/apiKey"] == "kept one"
    store = fresh.synchroniser().holding.store()
    assert store is not None
    with pytest.raises(ValueMissing, match="entered again"):
        value_of(store, find(store, "Orders database/password"))


def test_what_was_shredded_is_dropped_by_containers(holding: Container) -> None:
    lose(holding, "password", DataKey.Loss.SHREDDED)
    holding.sync()
    assert "Orders database/password" not in holding.values()
    assert holding.values()["Orders database/apiKey"] == "kept one"


def test_entering_it_again_heals_it(holding: Container, another: Enrolled) -> None:
    lose(holding, "password", DataKey.Loss.RESTORED)
    save(holding.stage, password="typed anew")
    for container in (holding, another("fresh", holding.stage.second)):
        container.sync()
        assert container.values()["Orders database/password"] == "typed anew"


def test_how_many_values_were_lost_is_kept(holding: Container) -> None:
    lose(holding, "password", DataKey.Loss.RESTORED)
    loss = Loss.objects.get()
    assert (loss.environment, loss.count) == (holding.stage.production, 1)
    assert mark_lost(DataKey.objects.all(), DataKey.Loss.SHREDDED) > 0
    assert key_of(holding, "password").lost_because == DataKey.Loss.RESTORED, "the first reason stays"


def test_only_what_a_restore_lost_can_be_found_again(holding: Container) -> None:
    mark_lost(DataKey.objects.all(), DataKey.Loss.SHREDDED)
    assert unmark(DataKey.objects.all()) == 0


def test_a_republished_environment_replaces_another_timeline(holding: Container) -> None:
    """The container took revision 3; the portal was restored to revision 2, and something else was saved there as 3."""
    stage = holding.stage
    stage.production.refresh_from_db()
    row = stage.production.extension_values.get(field__key="apiKey")
    revision = stage.production.extensions_revision
    stage.production.extension_values.filter(pk=row.pk).delete()
    type(stage.production).objects.filter(pk=stage.production.pk).update(extensions_revision=revision - 1)
    save(stage, apiKey="of the other timeline")
    assert stage.production.extension_values.get(field__key="apiKey").revision == row.revision
    stage.production.refresh_from_db()
    assert republish(stage.production, above=1000, actor="operator") == 1001
    holding.sync()
    assert holding.values()["Orders database/apiKey"] == "of the other timeline"
    type(stage.production).objects.filter(pk=stage.production.pk).update(extensions_revision=7)
    with pytest.raises(RevisionLower):
        holding.sync()
