"""What was taken away past the portal stops every save until it is back, or until an Administrator lets go of it: named, confirmed,
signed, and no way around what protects secrets."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import AuditEntry, Role, User
from atoms import actions as atoms
from extensions import letting_go
from extensions.actions import StaleRevision
from extensions.connections import FieldSpec, delete_connection, save_connection
from extensions.models import Connection, EnvironmentManifest, ExtensionValue, Field, ProcessProperty, listed_in
from kmscore.refused import Refused
from operations.work import sweep
from tests.conftest import PASSWORD, Stage, client_of
from tests.extensions.dialog import Dialog
from tests.kmsruntime.container import save
from tests.security.rows import write
from vaults.keys.disable import disable_kms, enable_kms
from vaults.models import Recipient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def held(stage: Stage) -> Stage:
    save(stage, {"region": "eu"}, password="canary", apiKey="another", host="db.example.com")
    return stage


def take_away(stage: Stage, *keys: str) -> None:
    """As whoever writes to the database: the field and what is held for it."""
    for key in keys:
        field = stage.field(key)
        ExtensionValue.objects.filter(field=field).delete()
        write(Field, field.pk, None)


def address(stage: Stage) -> str:
    return reverse("extensions:environment_let_go", args=[stage.account.code, stage.production.pk])


def page_of(stage: Stage) -> str:
    answer = client_of(stage.alice).get(address(stage))
    assert answer.status_code == 200
    return unescape(" ".join(re.sub(r"<[^>]*>", "", answer.content.decode()).split()))


def token_of(stage: Stage) -> str:
    stage.production.refresh_from_db()
    return letting_go.letting_go(stage.production).token


def let_go(stage: Stage) -> int:
    return letting_go.let_go(stage.production, token=token_of(stage), actor=stage.alice)


def confirm(stage: Stage, **changes: str) -> Any:
    typed = {"name": "Production", "lost": token_of(stage)} | changes
    return client_of(stage.alice).post(address(stage), typed)


def test_it_is_named_confirmed_signed_and_then_the_environment_is_saved_again(held: Stage) -> None:
    take_away(held, "password")
    dialog = Dialog(held)
    assert "Nothing is saved while something here was changed past the portal" in dialog.page()
    assert f'href="{address(held)}"' in dialog.page()
    refused = dialog.post(value_user="orders")
    assert refused.status_code == 422
    assert "says how to let go of what has no field any more" in refused.content.decode()
    page = page_of(held)
    assert re.search(
        "1 thing to let go of password, an encrypted value saved .*: its field was changed or taken away", page
    )
    assert confirm(held).status_code == 302
    assert ("connection", str(held.connection.pk), "password") not in listed_in(reloaded(held)).rows
    entry = AuditEntry.objects.get(action="LET_GO")
    assert (entry.actor_name, entry.properties["fields"]) == ("alice@example.com", [["", "password", "let go"]])
    assert dialog.post(value_user="orders").status_code == 302
    assert page_of(held).count("There is nothing to let go of") == 1


def reloaded(stage: Stage) -> Any:
    stage.production.refresh_from_db()
    return stage.production


@pytest.mark.parametrize("changes", [{"name": "Test"}, {"lost": ""}, {"lost": "0" * 32}, {"name": ""}])
def test_nothing_is_let_go_of_unconfirmed(held: Stage, changes: dict[str, str]) -> None:
    take_away(held, "password")
    answer = confirm(held, **changes)
    assert (answer.status_code, reloaded(held).extensions_revision) == (200, 1)
    assert "Not let go of" in answer.content.decode()


def test_what_was_confirmed_lets_go_of_nothing_else(held: Stage) -> None:
    take_away(held, "password")
    read = token_of(held)
    take_away(held, "apiKey")
    answer = confirm(held, lost=read)
    assert "What goes is not what you confirmed" in answer.content.decode()
    assert (reloaded(held).extensions_revision, 'value="Production"' in answer.content.decode()) == (1, True)
    assert confirm(held).status_code == 302


def test_where_nothing_is_loose_nothing_is_let_go_of(held: Stage) -> None:
    with pytest.raises(StaleRevision):
        let_go(held)
    assert reloaded(held).extensions_revision == 1


def test_a_member_without_the_right_neither_sees_nor_does_it(held: Stage) -> None:
    dora = User.objects.create_user("dora@example.com", PASSWORD)
    accounts.add_member(held.account, dora, [Role.objects.get(name="Standard User")], actor="tests")
    take_away(held, "password")
    client = client_of(dora)
    page = client.get(Dialog(held).url).content.decode()
    assert "Somebody with Account Administration can let go" in page
    assert address(held) not in page
    assert client.get(address(held)).status_code == 403
    assert client.post(address(held), {"name": "Production", "lost": token_of(held)}).status_code == 403
    assert reloaded(held).extensions_revision == 1


def test_it_waits_for_keys_as_every_save_does_and_says_so(held: Stage) -> None:
    disable_kms(held.account, days=7, actor=held.alice)
    take_away(held, "password")
    answer = confirm(held)
    assert "Nothing was let go of. The Key Management Service of this account was disabled" in answer.content.decode()
    assert reloaded(held).extensions_revision == 1


# -- attacks ------------------------------------------------------------------------------------------------------------


def test_a_place_that_was_a_secrets_stays_one_after_letting_go(held: Stage) -> None:
    """Else whoever deletes a row has the next secret saved in the clear, by way of a plain field of the same id."""
    take_away(held, "password")
    let_go(held)
    plain = FieldSpec(None, "password", "Password", False, True, "")
    with pytest.raises(Refused) as refusal:
        save_connection(held.account, held.connection, name="Orders database", fields=[plain], actor=held.alice)
    assert refusal.value.code == "sealed_once"


def test_an_earlier_plain_field_put_in_a_secrets_place_is_let_go_of_with_it(held: Stage) -> None:
    """It is genuine, from a day when it was plain; letting go gives it no value, and the next save is refused still."""
    secret = held.field("password")
    take_away(held, "password")
    Field(pk=secret.pk, connection=held.connection, key="password", label="Password", component_value="evil").save()
    let_go(held)
    assert not ExtensionValue.objects.filter(field=secret.pk).exists()
    with pytest.raises(Refused, match="give the plain field another id"):
        save(held, user="orders")
    save_connection(
        held.account, held.connection, name="Orders database", fields=[], deleted=[secret.pk], actor=held.alice
    )
    save(held, user="orders")


def test_nothing_written_past_the_portal_is_made_good_by_it(held: Stage) -> None:
    ExtensionValue.objects.filter(field=held.field("host")).update(form="plain", plain="evil.example")
    ProcessProperty.objects.update(plain="evil")
    common = {"environment": held.production, "plain": "evil.example", "revision": 1, "set_at": timezone.now()}
    ProcessProperty.objects.create(name="AAA", **common)
    ExtensionValue.objects.create(field=held.field("internal"), form="plain", **common)
    page = page_of(held)
    assert "AAA, a process property: nobody saved it" in page
    assert "Programs get the connection's value of Orders database / Host" in page
    let_go(held)
    assert not ExtensionValue.objects.filter(plain__contains="evil").exists()
    assert not ProcessProperty.objects.exists()
    assert ExtensionValue.objects.get(field=held.field("host"), environment=held.production).form == "component"


def test_a_forged_field_gives_nothing_when_something_else_is_let_go_of(held: Stage) -> None:
    """Else the list would be signed with its component value."""
    Field.objects.filter(pk=held.field("user").pk).update(component_value="evil.example")
    take_away(held, "password")
    let_go(held)
    assert not ExtensionValue.objects.filter(plain="evil.example").exists()
    assert {path[-1] for path in listed_in(reloaded(held)).rows} == {"region", "apiKey", "host"}


def test_what_was_let_go_of_and_put_back_is_not_held_again(held: Stage) -> None:
    field = held.field("password")
    row = ExtensionValue.objects.get(field=field)
    take_away(held, "password")
    let_go(held)
    Field.objects.bulk_create([field])
    ExtensionValue.objects.bulk_create([row])
    with pytest.raises(Refused, match="Orders database / Password"):
        save(held, user="orders")
    save(held, password="typed anew")
    assert ExtensionValue.objects.get(field=field).revision == 3


# -- every way to stop a save has a way out --------------------------------------------------------------------------------


def _many_properties(stage: Stage) -> None:
    common = {"environment": stage.production, "revision": 1, "set_at": timezone.now()}
    ProcessProperty.objects.bulk_create(ProcessProperty(name=f"p{n}", **common) for n in range(2_100))


def _property_no_browser_sends(stage: Stage) -> None:
    ProcessProperty.objects.update(name="reg\nion")


def _connection_taken_away(stage: Stage) -> None:
    take_away(stage, *stage.connection.fields.values_list("key", flat=True))
    write(Connection, stage.connection.pk, None)


def _connection_moved(stage: Stage) -> None:
    Connection.objects.update(account=stage.cast.other)


def _value_without_a_place(stage: Stage) -> None:
    common = {"environment": stage.production, "plain": "evil", "revision": 1, "set_at": timezone.now()}
    ExtensionValue.objects.create(field=stage.field("internal"), form="plain", **common)


STOPS: list[Callable[[Stage], None]] = [
    _many_properties,
    _property_no_browser_sends,
    _connection_taken_away,
    _connection_moved,
    _value_without_a_place,
]


@pytest.mark.parametrize("stop", STOPS)
def test_whatever_stops_a_save_can_be_let_go_of(held: Stage, stop: Callable[[Stage], None]) -> None:
    other = save_connection(
        held.account, None, name="Other", fields=[FieldSpec(None, "x", "X", False, True, "x")], actor=held.alice
    )
    stop(held)
    dialog = Dialog(held)
    key = other.fields.get().pk
    assert dialog.send({"expected_revision": "2", f"value.{key}": "y"}).status_code == 422
    assert address(held) in dialog.page()
    page_of(held)
    assert confirm(held).status_code == 302
    assert dialog.send({"expected_revision": "3", f"value.{key}": "y"}).status_code == 302


def test_a_field_moved_into_another_connection_is_no_dead_end(held: Stage) -> None:
    """Neither connection could be deleted: the one for what it misses, the other for the field that is not its own."""
    other = save_connection(held.account, None, name="Other", fields=[], actor=held.alice)
    Field.objects.filter(pk=held.field("password").pk).update(connection=other)
    with pytest.raises(Refused, match="past the portal"):
        delete_connection(other, actor=held.alice)
    page = client_of(held.alice).get(Dialog(held).url)
    assert (page.status_code, f'href="{address(held)}"' in page.content.decode()) == (403, True)
    assert address(held) not in client_of(held.cast.bob).get(Dialog(held).url).content.decode()
    let_go(held)
    delete_connection(other, actor=held.alice)
    save(held, user="orders")


def test_a_forged_field_leaves_with_its_connection_as_the_page_says(held: Stage) -> None:
    Field.objects.filter(pk=held.field("user").pk).update(label="Password")
    dialog = Dialog(held)
    page = client_of(held.alice).get(dialog.url)
    assert (page.status_code, "delete that connection under Build" in page.content.decode()) == (403, True)
    delete_connection(held.connection, actor=held.alice)
    dialog.page()


def test_a_list_that_was_changed_lets_go_of_nothing(held: Stage) -> None:
    take_away(held, "password")
    token = token_of(held)
    EnvironmentManifest.objects.update(listed='{"rows":[],"sealed":[],"restored":0}')
    answer = client_of(held.alice).post(address(held), {"name": "Production", "lost": token})
    assert answer.status_code == 403
    assert reloaded(held).extensions_revision == 1


def test_a_list_that_was_changed_leaves_with_its_environment_as_the_page_says(held: Stage) -> None:
    """It stops every change of a connection, too."""
    EnvironmentManifest.objects.all().delete()
    client, specs = client_of(held.alice), [FieldSpec(None, "x", "X", False, True, "x")]
    page = client.get(Dialog(held).url)
    assert page.status_code == 403
    assert "It is the list of what Production holds." in page.content.decode()
    for atom in (held.atom, held.second):
        atoms.detach(atom, actor=held.alice)
    gone = reverse("atoms:environment_delete", args=[held.account.code, held.production.pk])
    assert client.post(gone, {"name": "Production", "lost": "1"}).status_code == 302
    save_connection(held.account, held.connection, name="Orders database", fields=specs, actor=held.alice)


def test_keys_that_are_noted_no_more_are_noted_again_as_the_sentence_says(held: Stage) -> None:
    write(Recipient, held.production.pk, None)
    with pytest.raises(Refused, match="disabling the account's Key Management Service and enabling it again"):
        save(held, password="anew")
    disable_kms(held.account, days=7, actor=held.alice)
    sweep()
    enable_kms(held.account, actor=held.alice)
    sweep()
    save(held, password="anew")


def test_a_field_that_was_taken_away_does_not_leave_with_a_save_of_its_connection(held: Stage) -> None:
    """Its secret left every list, unasked and unsaid: whoever saved the connection had only opened its page."""
    write(Field, held.field("password").pk, None)
    kept = [
        FieldSpec(one.pk, one.key, one.label, one.encrypted, one.extensible, one.component_value)
        for one in held.connection.fields.all()
    ]
    held.production.refresh_from_db()
    before = listed_in(held.production)
    with pytest.raises(Refused, match="changed or taken away past the portal: password"):
        save_connection(held.account, held.connection, name="Renamed", fields=kept, actor=held.alice)
    assert listed_in(held.production) == before


def test_nothing_is_loose_once_it_was_let_go_of_and_no_row_of_it_is_left(held: Stage) -> None:
    """The rows of a field that is gone stayed, and with them the page's word that nothing could be saved."""
    write(Field, held.field("password").pk, None)
    let_go(held)
    known = Field.objects.values("pk")
    assert not ExtensionValue.objects.filter(environment=held.production).exclude(field__in=known).exists()
    assert "changed past the portal" not in Dialog(held).page()


def test_a_row_of_no_field_that_stops_nothing_is_not_said_to(held: Stage) -> None:
    let_go_of = held.field("password")
    row = ExtensionValue.objects.values().get(environment=held.production, field=let_go_of)
    take_away(held, "password")
    let_go(held)
    write(ExtensionValue, row.pop("id"), row)
    assert "changed past the portal" not in Dialog(held).page()
    assert Dialog(held).post(value_user="orders").status_code in (200, 302)
