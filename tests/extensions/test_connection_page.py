"""The connection page: nobody's edit undoes another's, and no secret leaves unasked."""

from typing import Any

import pytest
from django.urls import reverse

from extensions.models import Connection, ExtensionValue, Field
from tests.conftest import HostedVault, Stage
from tests.extensions.test_connections import edit, specs
from tests.extensions.test_save_extensions import save

pytestmark = pytest.mark.django_db(transaction=True)


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
    assert "Connection Orders database changed: 6 fields" in text
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
