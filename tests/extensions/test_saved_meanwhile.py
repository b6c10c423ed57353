"""What is saved while a connection's change is worked out: it is neither lost nor left listed without its value.

The vault takes its time; the other person saves meanwhile, through the same vault.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from atoms.models import Environment
from extensions.actions import StaleRevision, save_extensions
from extensions.connections import FieldSpec, save_connection
from extensions.models import ExtensionValue, Field
from extensions.plan import FieldChange
from extensions.restoring import publish_extensions
from extensions.secret import Secret
from kmscore.refused import Refused
from tests.conftest import HostedVault, Stage
from tests.extensions.test_connection_page import address, asked, leaving, page, post
from tests.extensions.test_connections import changed, edit, specs
from tests.extensions.test_save_extensions import save
from tests.extensions.test_vault_trouble import vault_at
from tests.faulty_vault import meanwhile_at
from tests.invariants.test_kill_web import opened_manifest
from vaults.restore.account import Restore

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@contextmanager
def meanwhile(
    settings: Any, vault: HostedVault, environment: Environment, *acts: Callable[[], object]
) -> Iterator[None]:
    """Somebody else does one of `acts` each time the vault makes a data key for the environment."""
    with meanwhile_at(vault.address, f"datakey/plaintext/{environment.pk}", *acts) as slow, vault_at(settings, slow):
        yield


def saved_in(stage: Stage, environment: Environment, value: str = "saved meanwhile") -> None:
    environment = Environment.objects.get(pk=environment.pk)
    changes = [FieldChange(stage.field("password"), "secret", Secret(value))]
    save_extensions(environment, changes, expected_revision=environment.extensions_revision, actor=stage.alice)


def emptied(stage: Stage) -> None:
    """Test holds no secret any more; a connection's change need not touch it."""
    saved_in(stage, stage.test)
    changes = [FieldChange(stage.field("password"), "clear")]
    save_extensions(stage.test, changes, expected_revision=1, actor=stage.alice)


def consistent(stage: Stage, vault: HostedVault) -> set[str]:
    """The sealed values Test holds, which its manifest lists, and no other."""
    held = set(
        ExtensionValue.objects.filter(environment=stage.test, form="sealed").values_list("field__key", flat=True)
    )
    listed = {entry.path[-1] for entry in opened_manifest(stage, vault, stage.test).entries if entry.form == "sealed"}
    assert held == listed
    return held


@pytest.mark.parametrize("how", ["DELETE", "extensible", "connection"])
@pytest.mark.parametrize("before", ["emptied", "never saved"])
def test_a_secret_saved_meanwhile_stays_and_is_asked_about(
    stage: Stage, hosted_vault: HostedVault, settings: Any, how: str, before: str
) -> None:
    save(stage, 0, password="canary")
    if before == "emptied":
        emptied(stage)
    inputs = page(stage) if how == "connection" else leaving(page(stage), "password", how)

    def send(token: str) -> Any:
        if how != "connection":
            return post(stage, inputs | {"confirmed": token})
        return stage.cast.client("alice").post(address(stage, "delete"), {"name": "Orders database", "lost": token})

    confirmed = asked(send(""), "lost" if how == "connection" else "confirmed")
    with meanwhile(settings, hosted_vault, stage.production, lambda: saved_in(stage, stage.test)):
        answer = send(confirmed)
    assert answer.status_code == 200
    assert "Test: 1 value" in answer.content.decode()
    assert consistent(stage, hosted_vault) == {"password"}


def test_a_field_added_elsewhere_meanwhile_keeps_its_values(
    stage: Stage, hosted_vault: HostedVault, settings: Any
) -> None:
    """The other connection's new field is none of this edit's business, though it was not there when the edit began."""
    save(stage, 0, password="canary")
    other = save_connection(stage.account, None, name="Other", fields=[], actor=stage.alice)

    def add_and_save() -> None:
        spec = FieldSpec(None, "token", "Token", True, True, "")
        save_connection(stage.account, other, name="Other", fields=[spec], actor=stage.alice)
        token = Field.objects.select_related("connection").get(key="token")
        revision = Environment.objects.get(pk=stage.production.pk).extensions_revision
        changes = [FieldChange(token, "secret", Secret("new"))]
        save_extensions(stage.production, changes, expected_revision=revision, actor=stage.alice)

    fields = specs(stage)
    fields["host"] = changed(fields["host"], component_value="db2.example.com")
    with meanwhile(settings, hosted_vault, stage.production, add_and_save):
        edit(stage, fields)
    assert ExtensionValue.objects.filter(field__key="token", form="sealed").exists()
    assert "token" in {entry.path[-1] for entry in opened_manifest(stage, hosted_vault).entries}


def test_a_save_for_a_field_that_leaves_meanwhile_is_refused(
    stage: Stage, hosted_vault: HostedVault, settings: Any
) -> None:
    """Else it would be held for a field that is delivered no more, and leave at the next save, unasked."""
    emptied(stage)
    fields = specs(stage)
    fields["password"] = changed(fields["password"], extensible=False)
    with meanwhile(settings, hosted_vault, stage.test, lambda: edit(stage, fields)), pytest.raises(StaleRevision):
        saved_in(stage, stage.test)
    assert consistent(stage, hosted_vault) == set()


@pytest.mark.parametrize("how", ["deleted", "extensible"])
def test_a_save_for_a_field_that_has_left_is_refused(stage: Stage, hosted_vault: HostedVault, how: str) -> None:
    """Else it would be told to be saved, and held nowhere."""
    emptied(stage)
    changes = [FieldChange(stage.field("password"), "secret", Secret("typed before it left"))]
    fields = specs(stage)
    if how == "deleted":
        del fields["password"]
    else:
        fields["password"] = changed(fields["password"], extensible=False)
    edit(stage, fields)
    with pytest.raises(StaleRevision):
        save_extensions(stage.test, changes, expected_revision=2, actor=stage.alice)
    stage.test.refresh_from_db()
    assert stage.test.extensions_revision == 2


def test_who_is_never_first_is_told_to_try_again(stage: Stage, hosted_vault: HostedVault, settings: Any) -> None:
    save(stage, 0, password="canary")
    fields = specs(stage)
    fields["host"] = changed(fields["host"], component_value="db2.example.com")
    values = iter("abc")

    def again() -> None:
        saved_in(stage, stage.test, next(values))

    with meanwhile(settings, hosted_vault, stage.production, again, again, again), pytest.raises(Refused) as refused:
        edit(stage, fields)
    assert refused.value.code == "saved_meanwhile"
    assert Field.objects.get(key="host").component_value == "db.example.com"


def test_a_save_asks_the_same_however_many_connections_there_are(stage: Stage, hosted_vault: HostedVault) -> None:
    """Each connection was once asked for its account, and one deleted meanwhile was an error of the server."""
    counts = []
    for number, more in enumerate([0, 0, 8]):
        for name in range(more):
            field = FieldSpec(None, "key", "Key", False, True, "")
            save_connection(stage.account, None, name=f"More {name}", fields=[field], actor=stage.alice)
        stage.production.refresh_from_db()
        with CaptureQueriesContext(connection) as queries:
            save_extensions(
                stage.production,
                [FieldChange(stage.field("user"), "plain", f"value {number}")],
                expected_revision=stage.production.extensions_revision,
                actor=stage.alice,
            )
        counts.append(len(queries))
    assert counts[1] == counts[2]


def test_who_saves_again_and_again_does_not_end_what_follows_a_restore(
    stage: Stage, hosted_vault: HostedVault, settings: Any
) -> None:
    """At the third save in between the operator's command once ended."""
    save(stage, 0, password="canary")
    values = iter("abcde")

    def again() -> None:
        with vault_at(settings, hosted_vault.address):
            saved_in(stage, stage.production, next(values))

    restore = Restore("today", database=True, vault=False, taken_at=timezone.now(), restored_at=timezone.now())
    with meanwhile(settings, hosted_vault, stage.production, *[again] * 5):
        published = publish_extensions(stage.account, restore)
    stage.production.refresh_from_db()
    assert published == [(stage.production, stage.production.extensions_revision)]
    assert next(values, None) is None
