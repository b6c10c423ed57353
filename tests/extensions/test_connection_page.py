"""The connection page: nobody's edit undoes another's, and no secret leaves unasked."""

import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import Membership, Role
from accounts.privileges import Privilege
from atoms import actions as atoms
from atoms.models import Environment
from extensions.actions import save_extensions
from extensions.models import Connection, ExtensionValue, Field
from extensions.plan import FieldChange
from extensions.secret import Secret
from tests.conftest import HostedVault, Stage
from tests.extensions.test_connections import changed, edit, specs
from tests.extensions.test_save_extensions import save

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def address(stage: Stage, act: str = "edit") -> str:
    return reverse(f"extensions:connection_{act}", args=[stage.account.code, stage.connection.pk])


def page(stage: Stage, who: str = "alice") -> dict[str, str]:
    """What a browser would post from the page as it is now."""
    answer = stage.cast.client(who).get(address(stage))
    assert answer.status_code == 200
    form, formset = answer.context["form"], answer.context["formset"]
    inputs = {"name": form["name"].value(), "version": form["version"].value()}
    for one in [formset.management_form, *formset]:
        for bound in one:
            value = bound.value()
            if value not in (None, False, ""):
                inputs[bound.html_name] = "on" if value is True else str(value)
    return inputs


def number_of(inputs: dict[str, str], key: str) -> str:
    """The prefix of a field's inputs."""
    return next(name.removesuffix("-key") for name, value in inputs.items() if name.endswith("-key") and value == key)


def post(stage: Stage, inputs: dict[str, str], who: str = "alice") -> Any:
    return stage.cast.client(who).post(address(stage), inputs)


def test_a_stale_page_saves_nothing_and_says_who_was_first(stage: Stage, hosted_vault: HostedVault) -> None:
    first, second = page(stage), page(stage)
    first |= {
        "fields-5-key": "token",
        "fields-5-label": "Token",
        "fields-5-encrypted": "on",
        "fields-5-extensible": "on",
    }
    assert post(stage, first).status_code == 302
    save(stage, 0, token="canary")
    answer = post(stage, second | {"name": "Typed by the second"})
    text = answer.content.decode()
    assert answer.status_code == 409
    assert "Orders database was changed meanwhile" in text
    assert "alice@example.com" in text
    assert "Connection Orders database changed: 1 field<" in text
    assert "Connection Orders database created" not in text
    assert 'value="Typed by the second"' in text
    assert Connection.objects.get().name == "Orders database"
    assert ExtensionValue.objects.filter(field__key="token", form="sealed").exists()
    assert post(stage, page(stage) | {"name": "Now it fits"}).status_code == 302


def test_a_page_without_its_version_saves_nothing(stage: Stage) -> None:
    inputs = page(stage)
    del inputs["version"]
    assert post(stage, inputs | {"name": "Other"}).status_code == 409
    assert Connection.objects.get().name == "Orders database"


def test_a_stale_page_shows_each_field_as_itself(stage: Stage, hosted_vault: HostedVault) -> None:
    stale = page(stage)
    fields = specs(stage)
    del fields["host"]
    edit(stage, fields)
    formset = post(stage, stale).context["formset"]
    shown = [(row["key"].value(), row.initial.get("key")) for row in formset.initial_forms]
    assert shown == [("host", None), *((key, key) for key in ("user", "password", "apiKey", "internal"))]


def test_only_what_was_ticked_is_deleted(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary", apiKey="other")
    inputs = page(stage)
    gone, kept = number_of(inputs, "user"), number_of(inputs, "password")
    inputs = {name: value for name, value in inputs.items() if not name.startswith(f"{kept}-")}
    last = f"fields-{int(inputs['fields-INITIAL_FORMS']) - 1}"
    inputs |= {f"{kept}-{end}": inputs.pop(f"{last}-{end}") for end in ("id", "key", "label", "component_value")}
    inputs |= {"fields-INITIAL_FORMS": "4", "fields-TOTAL_FORMS": "4", f"{gone}-DELETE": "on"}
    assert post(stage, inputs).status_code == 302
    assert set(Field.objects.values_list("key", flat=True)) == {"host", "password", "apiKey", "internal"}
    assert ExtensionValue.objects.filter(field__key="password", form="sealed").exists()


def test_the_id_of_a_field_being_deleted_is_taken(stage: Stage, hosted_vault: HostedVault) -> None:
    """Its values would be listed for the new one, and gone."""
    save(stage, 0, password="canary")
    inputs = page(stage)
    inputs[f"{number_of(inputs, 'password')}-DELETE"] = "on"
    inputs |= {"fields-5-key": "password", "fields-5-label": "Password", "fields-5-encrypted": "on"}
    answer = post(stage, inputs)
    assert "Another field has the id password." in answer.content.decode()
    assert ExtensionValue.objects.filter(field__key="password", form="sealed").exists()


@pytest.mark.parametrize("first", ["DELETE", "kept"])
@pytest.mark.parametrize("second", ["DELETE", "kept"])
def test_no_two_rows_can_be_the_same_field(stage: Stage, hosted_vault: HostedVault, first: str, second: str) -> None:
    """One deletes it and one keeps it: its values would go unasked, those of environments one does not see among them."""
    save(stage, 0, password="canary")
    hide_production(stage)
    inputs = page(stage, "bob")
    row = number_of(inputs, "password")
    inputs |= {f"fields-5-{end}": inputs[f"{row}-{end}"] for end in ("id", "key", "label", "encrypted", "extensible")}
    inputs |= {f"{row}-DELETE": "on"} if first == "DELETE" else {}
    inputs |= {"fields-5-DELETE": "on"} if second == "DELETE" else {}
    answer = post(stage, inputs | {"name": "Typed name"}, "bob")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "More than one row is the field password." in text
    for number in (row, "fields-5"):
        assert f'id="id_{number}-label_error"' in text
    assert 'value="Typed name"' in text
    assert ExtensionValue.objects.filter(field__key="password", form="sealed").exists()
    stage.production.refresh_from_db()
    assert stage.production.extensions_revision == 1


def leaving(inputs: dict[str, str], key: str, how: str = "DELETE") -> dict[str, str]:
    """The same, with a field deleted, or extensible no more."""
    prefix = number_of(inputs, key)
    if how == "DELETE":
        return inputs | {f"{prefix}-DELETE": "on"}
    return {name: value for name, value in inputs.items() if name != f"{prefix}-extensible"}


def asked(answer: Any, name: str = "confirmed") -> str:
    """What the page sends back when its reader agrees to what it lists."""
    assert answer.status_code == 200
    found = re.search(rf'name="{name}" value="([0-9a-f]+)"', answer.content.decode())
    assert found is not None
    return found[1]


def sealed() -> set[tuple[str, str]]:
    rows = ExtensionValue.objects.filter(form="sealed")
    return set(rows.values_list("environment__name", "field__key"))


@pytest.mark.parametrize("how", ["DELETE", "extensible"])
def test_fields_with_values_leave_only_when_these_values_are_confirmed(
    stage: Stage, hosted_vault: HostedVault, how: str
) -> None:
    save(stage, 0, password="canary", apiKey="other")
    inputs = leaving(page(stage), "password", how)
    for confirmed in ("", "1", "on", "2"):
        answer = post(stage, inputs | {"confirmed": confirmed})
        text = answer.content.decode()
        assert "1 value would be deleted" in text
        assert "Production: 1 value (Password)" in text
        assert ("These are not the values you agreed to lose." in text) is bool(confirmed)
        assert len(sealed()) == 2
    for wrong in (asked(answer).upper(), f"{asked(answer)} ", asked(answer)[:-1]):
        assert asked(post(stage, inputs | {"confirmed": wrong})) == asked(answer)
    assert post(stage, inputs | {"confirmed": asked(answer)}).status_code == 302
    assert sealed() == {("Production", "apiKey")}


def test_what_was_confirmed_for_one_field_deletes_no_other(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary", apiKey="other")
    inputs = page(stage)
    confirmed = asked(post(stage, leaving(inputs, "password")))
    typed = {f"{number_of(inputs, 'host')}-label": "Typed label", "name": "Typed name", "confirmed": confirmed}
    answer = post(stage, leaving(inputs, "apiKey") | typed)
    text = answer.content.decode()
    assert "Production: 1 value (API key)" in text
    assert 'value="Typed label"' in text
    assert 'value="Typed name"' in text
    assert answer.context["formset"].deleted() == {stage.field("apiKey").pk}
    assert sealed() == {("Production", "password"), ("Production", "apiKey")}


def test_what_was_confirmed_for_one_environment_deletes_nothing_in_another(
    stage: Stage, hosted_vault: HostedVault
) -> None:
    save(stage, 0, password="canary")
    inputs = leaving(page(stage), "password")
    confirmed = asked(post(stage, inputs))
    change(stage, stage.production, 1, "clear")
    change(stage, stage.test, 0, "secret")
    answer = post(stage, inputs | {"confirmed": confirmed})
    assert "Test: 1 value (Password)" in answer.content.decode()
    assert sealed() == {("Test", "password")}
    assert post(stage, inputs | {"confirmed": asked(answer)}).status_code == 302
    assert sealed() == set()


def test_a_value_that_replaced_the_confirmed_one_is_asked_about(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    inputs = leaving(page(stage), "password")
    confirmed = asked(post(stage, inputs))
    change(stage, stage.production, 1, "secret")
    assert asked(post(stage, inputs | {"confirmed": confirmed})) != confirmed
    assert sealed() == {("Production", "password")}


def change(stage: Stage, environment: Environment, revision: int, to: Any) -> None:
    value = Secret("new") if to == "secret" else ""
    changes = [FieldChange(stage.field("password"), to, value)]
    save_extensions(environment, changes, expected_revision=revision, actor=stage.alice)


def test_fields_without_values_leave_unasked(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, apiKey="other")
    inputs = page(stage)
    inputs[f"{number_of(inputs, 'host')}-DELETE"] = "on"
    assert post(stage, inputs).status_code == 302


def hide_production(stage: Stage, *privileges: str) -> None:
    """From Bob, who builds; the environment is for others."""
    role = Role(account=stage.account, name="Builders", privileges=" ".join((Privilege.BUILD, *privileges)))
    role.save(force_insert=True)
    Membership.objects.get(account=stage.account, user=stage.cast.bob).delete()
    accounts.add_member(stage.account, stage.cast.bob, [role], actor="tests")
    other = Role(account=stage.account, name="Others", privileges="")
    other.save(force_insert=True)
    atoms.set_environment_roles(stage.production, [other], actor=stage.alice)


@pytest.mark.parametrize("how", ["DELETE", "extensible", "connection"])
def test_values_of_an_environment_one_does_not_see_cannot_be_deleted(
    stage: Stage, hosted_vault: HostedVault, how: str
) -> None:
    save(stage, 0, password="canary")
    hide_production(stage)
    if how == "connection":
        answer = stage.cast.client("bob").post(address(stage, "delete"), {"name": "Orders database"})
    else:
        inputs = page(stage, "bob") | {"confirmed": "1"}
        prefix = number_of(inputs, "password")
        inputs.pop(f"{prefix}-extensible")
        answer = post(stage, inputs | ({f"{prefix}-DELETE": "on"} if how == "DELETE" else {}), "bob")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "Environments you do not see hold values for it" in text
    assert "Production" not in text
    assert ExtensionValue.objects.filter(form="sealed").exists()


def test_an_administrator_of_the_account_deletes_them_all_the_same(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    hide_production(stage, Privilege.ACCOUNT_ADMIN)
    client = stage.cast.client("bob")
    shown = client.get(address(stage, "delete"))
    assert "Production: 1 value" in shown.content.decode()
    typed = {"name": "Orders database", "lost": asked(shown, "lost")}
    assert client.post(address(stage, "delete"), typed).status_code == 302
    assert not ExtensionValue.objects.exists()


def test_the_delete_page_lists_values_by_environment(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary", apiKey="other")
    text = stage.cast.client("alice").get(address(stage, "delete")).content.decode()
    assert "Production: 2 values (API key, Password)" in text
    assert "Test: " not in text


@pytest.mark.parametrize("before", ["none", "one"])
def test_the_delete_page_deletes_the_values_it_listed_and_no_others(
    stage: Stage, hosted_vault: HostedVault, before: str
) -> None:
    client = stage.cast.client("alice")
    if before == "one":
        change(stage, stage.test, 0, "secret")
    lost = asked(client.get(address(stage, "delete")), "lost")
    save(stage, 0, password="saved since")
    for typed in ({"lost": lost}, {"lost": "1"}, {}):
        answer = client.post(address(stage, "delete"), {"name": "Orders database"} | typed)
        text = answer.content.decode()
        assert "Nothing was deleted. What goes is not what you confirmed" in text
        assert "Production: 1 value (Password)" in text
        assert 'value="Orders database"' in text
        assert ("Production", "password") in sealed()
    typed = {"name": "Orders database", "lost": asked(answer, "lost")}
    assert client.post(address(stage, "delete"), typed).status_code == 302
    assert not ExtensionValue.objects.exists()


def test_deleting_asks_for_a_recent_sign_in(stage: Stage) -> None:
    client = stage.cast.client("alice")
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=True):
        answer = client.post(address(stage, "delete"), {"name": "Orders database"})
    assert answer.headers["Location"].startswith("/auth/reauthenticate/")
    assert Connection.objects.exists()


def test_a_connection_that_was_changed_past_the_portal_can_be_deleted(stage: Stage, hosted_vault: HostedVault) -> None:
    """Else one such row would close every environment's extensions for good."""
    save(stage, 0, password="canary")
    Field.objects.filter(connection=stage.connection).update(signature=b"")
    Connection.objects.filter(pk=stage.connection.pk).update(signature=b"")
    alice = stage.cast.client("alice")
    page = alice.get(address(stage, "delete"))
    assert page.status_code == 200
    typed = {"name": "Orders database", "lost": asked(page, "lost")}
    assert alice.post(address(stage, "delete"), typed).status_code == 302
    path = reverse("extensions:environment_extensions", args=[stage.account.code, stage.production.pk])
    assert alice.get(path).status_code == 200
    assert not ExtensionValue.objects.exists()


def test_the_audit_log_counts_the_fields_that_were_changed(stage: Stage) -> None:
    def said() -> str:
        return stage.account.audit_entries.filter(type="as.component")[0].message

    assert said() == "Connection Orders database created: 5 fields"
    fields = specs(stage)
    edit(stage, fields | {"host": changed(fields["host"], component_value="db2.example.com")})
    assert said() == "Connection Orders database changed: 1 field"
    edit(stage, {key: spec for key, spec in specs(stage).items() if key != "internal"})
    assert said() == "Connection Orders database changed: 1 field"
    edit(stage, specs(stage), "Orders")
    assert said() == "Connection Orders changed"
