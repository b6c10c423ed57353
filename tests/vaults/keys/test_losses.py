"""What the vault has lost is named, entered again, and takes nothing else with it."""

from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Role
from atoms import actions as atoms
from extensions.actions import republish, save_extensions
from extensions.listing import decode
from extensions.plan import FieldChange
from extensions.secret import Secret
from kmsruntime.environment import find, value_of
from kmsruntime.errors import RevisionLower, ValueMissing
from tests.conftest import Stage
from tests.kmsruntime.conftest import *  # noqa: F403 (its fixtures)
from tests.kmsruntime.conftest import Enrolled
from tests.kmsruntime.container import Container, save
from vaults.keys.losses import mark_lost, unmark
from vaults.models import DataKey, KmsAccount, LostKeys

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def key_of(container: Container, key: str) -> DataKey:
    found: DataKey = container.stage.production.extension_values.get(field__key=key).data_key
    return found


def lose(container: Container, key: str, because: str) -> None:
    assert mark_lost(DataKey.objects.filter(pk=key_of(container, key).pk), because) == 1
    if because == DataKey.LostBecause.SHREDDED:
        kms = KmsAccount.objects.get(account=container.stage.account)
        kms.shredded_at = timezone.now()
        kms.save()
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
    lose(holding, "password", DataKey.LostBecause.RESTORED)
    assert holding.sync().result == "updated"
    assert holding.values()["Orders database/password"] == "lost one"
    assert holding.values()["Orders database/apiKey"] == "kept one"


def test_a_new_container_goes_without_it_and_says_what_to_do(holding: Container, another: Enrolled) -> None:
    lose(holding, "password", DataKey.LostBecause.RESTORED)
    fresh = another("fresh", holding.stage.second)
    fresh.sync()
    assert fresh.values()["Orders database/apiKey"] == "kept one"
    store = fresh.synchroniser().sealed_state.store()
    assert store is not None
    with pytest.raises(ValueMissing, match="entered again"):
        value_of(store, find(store, "Orders database/password"))


def test_what_was_shredded_is_dropped_by_containers(holding: Container) -> None:
    lose(holding, "password", DataKey.LostBecause.SHREDDED)
    holding.sync()
    assert "Orders database/password" not in holding.values()
    assert holding.values()["Orders database/apiKey"] == "kept one"


def test_entering_it_again_heals_it(holding: Container, another: Enrolled) -> None:
    lose(holding, "password", DataKey.LostBecause.RESTORED)
    save(holding.stage, password="typed anew")
    for container in (holding, another("fresh", holding.stage.second)):
        container.sync()
        assert container.values()["Orders database/password"] == "typed anew"


def test_how_many_values_were_lost_is_kept(holding: Container) -> None:
    lose(holding, "password", DataKey.LostBecause.RESTORED)
    loss = LostKeys.objects.get()
    assert (loss.environment, loss.count) == (holding.stage.production, 1)
    assert mark_lost(DataKey.objects.all(), DataKey.LostBecause.SHREDDED) > 0
    assert key_of(holding, "password").lost_because == DataKey.LostBecause.RESTORED, "the first reason stays"


def test_only_what_a_restore_lost_can_be_found_again(holding: Container) -> None:
    mark_lost(DataKey.objects.all(), DataKey.LostBecause.SHREDDED)
    assert unmark(DataKey.objects.all()) == 0


def test_a_republished_environment_replaces_another_timeline(holding: Container) -> None:
    """The container took revision 3; the portal was restored to revision 2, and something else was saved there as 3."""
    stage = holding.stage
    stage.production.refresh_from_db()
    row = stage.production.extension_values.get(field__key="apiKey")
    revision = stage.production.extensions_revision
    stage.production.extension_values.filter(pk=row.pk).delete()
    manifest = stage.production.manifest
    manifest.revision = revision - 1
    listing = decode(manifest.listed)
    rows = {path: one for path, one in listing.rows.items() if path != row.field.path}
    manifest.listed = replace(listing, rows=rows).encode()
    manifest.save()
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


# -- the worklist -------------------------------------------------------------------------------------------------------


def worklist(stage: Stage, who: str = "alice") -> str:
    return stage.cast.client(who).get(reverse("extensions:reentry_list", args=[stage.account.code])).content.decode()


@pytest.fixture
def two_lost(stage: Stage) -> Stage:
    """Three values, two of which are lost."""
    save(stage, password="lost")
    save(stage, apiKey="kept")
    stage.test.refresh_from_db()
    change = FieldChange(stage.field("password"), "secret", Secret("lost as well"))
    save_extensions(stage.test, [change], expected_revision=0, actor=stage.alice)
    lost = DataKey.objects.filter(extension_values__field__key="password")
    mark_lost(lost, DataKey.LostBecause.RESTORED)
    return stage


def test_only_what_is_lost_is_on_the_worklist_with_owner_and_field(two_lost: Stage) -> None:
    shown = worklist(two_lost)
    field = two_lost.field("password")
    for environment in (two_lost.production, two_lost.test):
        dialog = reverse("extensions:environment_extensions", args=[two_lost.account.code, environment.pk])
        assert f"{dialog}?connection={field.connection_id}#field-{field.pk}" in shown
    assert "API key" not in shown
    assert str(two_lost.alice) in shown
    assert "0 of 1" in shown


def test_what_was_entered_again_leaves_the_worklist(two_lost: Stage) -> None:
    save(two_lost, password="again")
    shown = worklist(two_lost)
    assert 'aria-label="Production"' not in shown
    assert 'aria-label="Test"' in shown


def test_the_dialog_says_which_field_it_is(two_lost: Stage) -> None:
    dialog = reverse("extensions:environment_extensions", args=[two_lost.account.code, two_lost.production.pk])
    shown = two_lost.cast.client("alice").get(f"{dialog}?show=missing").content.decode()
    assert "Re-entry needed" in shown


def test_a_hidden_environments_losses_are_hidden(two_lost: Stage) -> None:
    atoms.set_environment_roles(two_lost.production, [Role.objects.get(name="Support")], actor=two_lost.alice)
    shown = worklist(two_lost, "bob")
    assert 'aria-label="Production"' not in shown
    assert 'aria-label="Test"' in shown


def test_nothing_lost_is_said_so(stage: Stage) -> None:
    assert "Nothing has to be entered again" in worklist(stage)


def test_the_worklist_asks_the_same_number_of_queries_whatever_is_lost(two_lost: Stage) -> None:
    worklist(two_lost)
    with CaptureQueriesContext(connection) as few:
        worklist(two_lost)
    mark_lost(DataKey.objects.filter(extension_values__field__key="apiKey"), DataKey.LostBecause.RESTORED)
    with CaptureQueriesContext(connection) as more:
        worklist(two_lost)
    assert len(more) == len(few)
