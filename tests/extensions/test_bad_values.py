"""What cannot be a value is refused beside its field, in words; nothing of the save is written and nothing typed is lost."""

from urllib.parse import urlencode

import pytest

from extensions.models import ExtensionValue
from tests.conftest import Stage
from tests.extensions.dialog import Dialog, many_fields

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
KIB = 1024


@pytest.fixture
def dialog(stage: Stage) -> Dialog:
    return Dialog(stage)


BAD_SECRETS = {
    "x" * (64 * KIB + 1): "at most 64 KiB can be stored",
    "ü" * (32 * KIB) + "x": "at most 64 KiB can be stored",
    "<Encrypted>": "This is the mark for a hidden value",
    " <ENCRYPTED> ": "This is the mark for a hidden value",
    "****": "This is the mark for a hidden value",
    "•••": "This is the mark for a hidden value",
    "a\0b": "contains a NUL character",
    "caf\ufffd": "is not valid text",
}


@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize("typed", BAD_SECRETS, ids=lambda typed: repr(typed[:12]))
def test_a_bad_secret_is_refused_in_words(dialog: Dialog, typed: str, htmx: bool) -> None:
    answer = dialog.post(htmx=htmx, secret_password=typed, secret_apiKey="a good one", value_user="kept as typed")
    text = answer.content.decode()
    assert answer.status_code == 422
    assert BAD_SECRETS[typed] in text
    assert "Orders database / Password" in text
    assert dialog.holds() == set()
    assert "a good one" not in text
    if htmx:  # only the messages are swapped in: what was typed stays where it is
        assert answer.headers["HX-Retarget"] == "#extensions-errors"
        assert "<textarea" not in text
    else:
        assert "kept as typed" in text
        assert "Type these again" in text


def test_the_largest_value_is_taken(dialog: Dialog) -> None:
    assert dialog.post(secret_password="x" * 64 * KIB).status_code == 302
    assert len(bytes(ExtensionValue.objects.get(form="sealed").sealed or b"")) == 64 * KIB + 29


@pytest.mark.parametrize("typed", [b"%FFbinary", b"%ED%A0%80", b"%C3%28"])
def test_bytes_that_are_no_text_are_refused_and_not_replaced(dialog: Dialog, typed: bytes) -> None:
    field = dialog.stage.field("password").pk
    body = f"expected_revision=0&secret.{field}=".encode() + typed
    answer = dialog.client.post(dialog.url, body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 422
    assert "is not valid text" in answer.content.decode()
    assert dialog.holds() == set()


def test_a_save_over_four_mebibytes_is_refused_whole(dialog: Dialog) -> None:
    connection = many_fields(dialog.stage, 65)
    form = {f"secret.{field.pk}": "x" * 64 * KIB for field in connection.fields.all()}
    answer = dialog.send({"expected_revision": "0", **form})
    assert answer.status_code == 422
    assert "This save has 4.1 MiB of values; at most 4 MiB fit into one." in answer.content.decode()
    assert dialog.holds() == set()
    answer = dialog.send({"expected_revision": "0", **dict(list(form.items())[:64])})
    assert answer.status_code == 302, "exactly 4 MiB fit"


def test_values_that_stay_do_not_count(dialog: Dialog) -> None:
    """More than 4 MiB of plain values, all of them posted, and one changed."""
    connection = many_fields(dialog.stage, 65, encrypted=False)
    form = {f"value.{field.pk}": "x" * 64 * KIB for field in connection.fields.all()}
    first, second = dict(list(form.items())[:33]), dict(list(form.items())[33:])
    for number, part in enumerate((first, second)):
        assert dialog.send({"expected_revision": str(number), **part}).status_code == 302
    assert (
        dialog.send({"expected_revision": "2", **form, f"value.{dialog.stage.field('user').pk}": "new"}).status_code
        == 302
    )
    assert ("user", 3) in dialog.holds()


def test_a_save_of_more_than_two_thousand_fields_is_refused_whole(dialog: Dialog) -> None:
    form = {}
    for number in range(2_001):
        form |= {f"property.{number}.name": f"p{number}", f"property.{number}.value": "v"}
    answer = dialog.send({"expected_revision": "0", **form})
    assert answer.status_code == 422
    assert "This save changes 2,001 fields; at most 2,000 fit into one." in answer.content.decode()
    assert dialog.holds() == set()
    del form["property.2000.name"], form["property.2000.value"]
    assert dialog.send({"expected_revision": "0", **form}).status_code == 302
    assert len(dialog.holds()) == 2_002  # and the two plain fields that follow their component


@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize(("name", "size"), [("fields", 25_001), ("bytes", 14 * KIB * KIB)])
def test_what_is_too_much_for_any_save_is_refused_with_the_limits(
    dialog: Dialog, name: str, size: int, htmx: bool
) -> None:
    form = {f"x{n}": "" for n in range(size)} if name == "fields" else {"x": "y" * size}
    answer = dialog.send({"expected_revision": "0", **form}, htmx=htmx)
    text = answer.content.decode()
    assert answer.status_code == 413
    assert "at most 4 MiB of values and 2,000 changed fields" in text
    if htmx:  # only the messages are swapped in: what was typed stays where it is
        assert answer.headers["HX-Retarget"] == "#extensions-errors"
        assert "<textarea" not in text
    else:
        assert "<h1" in text


def test_ten_thousand_inputs_of_a_browser_without_script_can_be_saved(dialog: Dialog) -> None:
    form = {f"secret.{number}": "" for number in range(20_000)}
    typed = {f"secret.{dialog.stage.field('password').pk}": "typed"}
    assert dialog.send({"expected_revision": "0", **form, **typed}).status_code == 302
    assert ("password", 1) in dialog.holds()


def test_what_is_not_posted_stays_as_it_is(dialog: Dialog) -> None:
    dialog.post(secret_password="also stored", secret_apiKey="stored", value_user="mine")
    before = dialog.holds()
    answer = dialog.post(htmx=True)
    assert "Nothing was changed" in answer.content.decode()
    assert dialog.holds() == before
    dialog.post(secret_password="", value_user="")
    assert {key for key, _ in dialog.holds()} == {"password", "apiKey", "user", "host"}


def test_a_property_that_is_not_posted_keeps_its_name(dialog: Dialog) -> None:
    dialog.post(**{"property.0.name": "region", "property.0.value": "eu"})
    answer = dialog.post(**{"property.1.name": "Region", "property.1.value": "us"})
    assert answer.status_code == 422
    assert "Another property has the name" in answer.content.decode()


@pytest.mark.parametrize("number", ["9" * 5_000, "9" * 10, "\u0663", "-1", "1.5", ""])
def test_a_property_of_no_number_is_none(dialog: Dialog, number: str) -> None:
    body = urlencode({"expected_revision": 0, f"property.{number}.name": "region", f"property.{number}.value": "eu"})
    answer = dialog.client.post(dialog.url, body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 302
    assert dialog.holds() == {("host", 1), ("user", 1)}


@pytest.mark.parametrize("revision", ["", "x", "-1", "1.5", "9" * 30])
def test_a_form_without_its_revision_is_refused(dialog: Dialog, revision: str) -> None:
    answer = dialog.send({"expected_revision": revision})
    assert answer.status_code == 422
    assert "Load the page again" in answer.content.decode()


def test_an_empty_replace_keeps_what_is_stored(dialog: Dialog) -> None:
    dialog.post(secret_password="stored")
    before = ExtensionValue.objects.get(form="sealed").sealed
    answer = dialog.post(secret_password="", htmx=True)
    assert "Nothing was changed" in answer.content.decode()
    assert ExtensionValue.objects.get(form="sealed").sealed == before
    assert dialog.revision() == 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"secret_password": "new", "clear_password": "on"}, "replace the stored value, or remove it"),
        ({"value_user": "mine", "component_user": "on"}, "Untick “Use connection component value”"),
        ({"value_user": "x" * (64 * KIB + 1)}, "at most 64 KiB can be stored"),
        ({"value_user": "a\0b"}, "contains a NUL character"),
        ({"property.0.name": "", "property.0.value": "v"}, "Give this property a name"),
        ({"property.0.name": "x" * 201, "property.0.value": "v"}, "at most 200 characters"),
        ({"property.0.name": "a\u202eb", "property.0.value": "v"}, "no control characters"),
    ],
)
def test_a_contradiction_is_refused(dialog: Dialog, inputs: dict[str, str], message: str) -> None:
    answer = dialog.post(**inputs)
    assert answer.status_code == 422
    assert message in answer.content.decode()
    assert dialog.holds() == set()


@pytest.mark.parametrize("second", ["region", "Region", " REGION "])
def test_a_second_property_of_the_same_name_is_refused(dialog: Dialog, second: str) -> None:
    first = {"property.0.name": "region", "property.0.value": "eu"}
    twice = first | {"property.1.name": second, "property.1.value": "us"}
    answer = dialog.post(**twice)
    assert "Another property has the name" in answer.content.decode()
    assert dialog.holds() == set()
    dialog.post(**first)
    answer = dialog.post(**{"property.0.value": "eu", "property.1.name": second, "property.1.value": "us"})
    assert answer.status_code == 422
    assert "Another property has the name" in answer.content.decode()


def test_two_sessions_and_one_revision(dialog: Dialog) -> None:
    """The second to save sees who changed which field, never a value, and keeps the plain values typed."""
    second = Dialog(dialog.stage)
    assert dialog.post(expected=0, secret_password="secret of one", value_host="host of one").status_code == 302
    typed = {"secret_apiKey": "secret of two", "value_user": "user of two"}
    answer = second.post(expected=0, **typed)
    text = " ".join(answer.content.decode().split())
    assert answer.status_code == 409
    assert "was changed meanwhile" in text
    assert "alice@example.com" in text
    assert "Orders database / Password: new secret" in text
    assert "Orders database / Host: new value" in text
    conflict = text[text.index('id="extensions-errors"') : text.index('id="extensions-list"')]
    assert "of one" not in conflict
    assert "secret of" not in text
    assert "user of two</textarea>" in text
    assert 'name="expected_revision" value="0"' in text, "loading the page again is what renews it"
    assert {key for key, revision in dialog.holds() if revision} == {"password", "host", "user"}
    assert second.post(expected=0, htmx=True, **typed).status_code == 409
    assert second.post(expected=1, **typed).status_code == 302


def test_a_property_that_is_removed_and_set_at_once_is_set(dialog: Dialog) -> None:
    """On commit b5f6031 its row went and the list kept it: every later save was refused."""
    dialog.post(**{"property.0.name": "region", "property.0.value": "eu"})
    twice = {"property.0.held": "region", "property.0.value": "eu", "property.0.remove": "on"}
    assert dialog.post(**twice, **{"property.1.held": "region", "property.1.value": "us"}).status_code == 302
    assert dialog.holds() >= {("region", 2)}
    assert dialog.post(value_user="orders").status_code == 302
