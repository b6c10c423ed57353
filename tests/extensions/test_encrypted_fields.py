"""An encrypted field has no component value, so nothing can make an environment give up a secret for one."""

import pytest

from accounts.models import AuditEntry
from extensions.actions import save_extensions
from extensions.models import ExtensionValue
from extensions.plan import FieldChange
from kmscore.refused import Refused
from tests.conftest import HostedVault, Stage
from tests.extensions.dialog import Dialog
from tests.invariants.test_kill_web import opened_manifest
from tests.kmsruntime.container import leave_to_the_component

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def dialog(stage: Stage) -> Dialog:
    return Dialog(stage)


def stored(stage: Stage) -> tuple[str, bytes]:
    row = ExtensionValue.objects.get(environment=stage.production, field=stage.field("password"))
    return row.form, bytes(row.sealed or b"")


def of_connection(page: str) -> str:
    """The connection's card on the page."""
    start = page.index('class="card ext-section" id="connection-')
    return page[start : page.index("</section>", start)]


def test_the_page_offers_no_component_value_for_an_encrypted_field(dialog: Dialog) -> None:
    dialog.post(secret_password="stored")
    leave_to_the_component(dialog.stage, "apiKey")
    page = dialog.page()
    assert f'name="component.{dialog.stage.field("host").pk}"' in page
    for key in ("password", "apiKey"):
        assert f"component.{dialog.stage.field(key).pk}" not in page


@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize("typed", ["", "a new one"])
def test_the_form_refuses_a_component_value_for_an_encrypted_field(dialog: Dialog, typed: str, htmx: bool) -> None:
    dialog.post(secret_password="stored")
    before = stored(dialog.stage)
    inputs = {
        "component_password": "on",
        "secret_password": typed,
        "component_host": "on",
        "value_user": "kept as typed",
    }
    answer = dialog.post(htmx=htmx, **inputs)
    text = answer.content.decode()
    assert answer.status_code == 422
    assert "Orders database / Password: An encrypted field has no connection component value." in text
    assert (stored(dialog.stage), dialog.revision()) == (before, 1)
    assert "a new one" not in text
    if htmx:  # only the messages are swapped in: what was typed stays where it is
        assert answer.headers["HX-Retarget"] == "#extensions-errors"
        assert "<textarea" not in text
    else:
        assert "kept as typed</textarea>" in text
        assert ("Type these again" in text) == bool(typed)


def test_the_action_refuses_a_component_value_for_an_encrypted_field(stage: Stage, hosted_vault: HostedVault) -> None:
    Dialog(stage).post(secret_password="stored")
    before, entries = stored(stage), AuditEntry.objects.count()
    changes = [FieldChange(stage.field("user"), "plain", "x"), FieldChange(stage.field("password"), "component")]
    with pytest.raises(Refused, match="Orders database / Password is encrypted") as refused:
        save_extensions(stage.production, changes, expected_revision=1, actor=stage.alice)
    assert refused.value.code == "no_component_value"
    assert (stored(stage), AuditEntry.objects.count()) == (before, entries)
    assert not ExtensionValue.objects.filter(field=stage.field("user"), form="plain").exists()


def test_a_stored_row_that_says_so_counts_as_missing(dialog: Dialog) -> None:
    dialog.post(secret_password="stored", secret_apiKey="stored")
    assert "Complete" in of_connection(dialog.page())
    leave_to_the_component(dialog.stage, "apiKey")
    page = of_connection(dialog.page())
    assert "Complete" not in page
    assert "1 missing" in page
    row = page[page.index(f'id="field-{dialog.stage.field("apiKey").pk}"') :]
    assert 'data-state="missing"' in row[: row.index(">")]
    assert "Not set" in row


def test_the_list_for_the_containers_calls_it_missing(dialog: Dialog, hosted_vault: HostedVault) -> None:
    dialog.post(secret_password="stored")
    forms = {entry.path[-1]: entry.form for entry in opened_manifest(dialog.stage, hosted_vault).entries}
    assert (forms["password"], forms["apiKey"]) == ("sealed", "missing")


def test_it_is_mended_by_entering_the_value(dialog: Dialog) -> None:
    leave_to_the_component(dialog.stage, "apiKey")
    dialog.post(secret_password="stored", secret_apiKey="entered")
    assert "Complete" in of_connection(dialog.page())


def test_a_save_that_touches_something_else_leaves_secrets_alone(dialog: Dialog) -> None:
    dialog.post(secret_password="stored")
    before = stored(dialog.stage)
    assert dialog.post(secret_password="", value_user="mine").status_code == 302
    assert stored(dialog.stage) == before
