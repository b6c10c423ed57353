"""Names: unique in an account whatever their case, printable, at most 80 characters; what was typed stays in the form."""

from collections.abc import Callable
from typing import Any

import pytest

from atoms.models import Atom, Environment
from extensions.models import Connection
from tests.conftest import Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
BAD = {
    "x" * 81: "at most 80 characters",
    "a\x07b": "A name cannot contain control characters.",
    "a\u202egpj.exe": "A name cannot contain control characters.",
    "a\u200bb": "A name cannot contain control characters.",
    "a\0b": "Null characters are not allowed.",
    "": "This field is required.",
    "   ": "This field is required.",
}


def post_environment(stage: Stage, name: str) -> Any:
    form = {"name": name, "classification": "TEST"}
    return stage.cast.client("alice").post(f"/accounts/{stage.account.code}/environments/new/", form)


def post_atom(stage: Stage, name: str) -> Any:
    form = {"name": name, "type": "ATOM", "environment": ""}
    return stage.cast.client("alice").post(f"/accounts/{stage.account.code}/atoms/new/", form)


def post_connection(stage: Stage, name: str) -> Any:
    form = {"name": name, "fields-TOTAL_FORMS": "1", "fields-INITIAL_FORMS": "0", "fields-0-key": "kept-field"}
    form |= {"fields-0-label": "Kept"}
    return stage.cast.client("alice").post(f"/accounts/{stage.account.code}/connections/new/", form)


KINDS: list[tuple[Callable[[Stage, str], Any], type, str]] = [
    (post_environment, Environment, "Production"),
    (post_atom, Atom, "Orders Atom"),
    (post_connection, Connection, "Orders database"),
]


@pytest.mark.parametrize("name", BAD, ids=repr)
@pytest.mark.parametrize(("post", "model", "taken"), KINDS)
def test_a_bad_name_is_refused_in_words(stage: Stage, post: Any, model: Any, taken: str, name: str) -> None:
    before = model.objects.count()
    answer = post(stage, name)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert BAD[name] in text
    assert 'role="alert"' in text
    assert model.objects.count() == before
    if model is Connection:
        assert "kept-field" in text


@pytest.mark.parametrize("change", [str, str.upper, str.lower, lambda name: f"  {name.replace(' ', '   ')} "])
@pytest.mark.parametrize(("post", "model", "taken"), KINDS)
def test_a_name_is_taken_whatever_its_case(stage: Stage, post: Any, model: Any, taken: str, change: Any) -> None:
    before = model.objects.count()
    answer = post(stage, change(taken))
    assert "This name is taken." in answer.content.decode()
    assert model.objects.count() == before


@pytest.mark.parametrize(("post", "model", "taken"), KINDS)
def test_names_of_other_accounts_are_free(stage: Stage, post: Any, model: Any, taken: str) -> None:
    model.objects.filter(name=taken).update(account=stage.cast.other)
    assert post(stage, taken).status_code == 302


@pytest.mark.parametrize("name", ["x" * 80, "Ümläut 鍵 🔑", "<script>alert(1)</script>", "a & b \"c\" 'd'"])
@pytest.mark.parametrize(("post", "model", "taken"), KINDS)
def test_any_other_name_is_taken_and_shown_escaped(stage: Stage, post: Any, model: Any, taken: str, name: str) -> None:
    assert post(stage, name).status_code == 302
    assert model.objects.filter(name=name).exists()
    for page in ("atoms/", "connections/", "audit/"):
        assert (
            "<script>alert"
            not in stage.cast.client("alice").get(f"/accounts/{stage.account.code}/{page}").content.decode()
        )


@pytest.mark.parametrize("route", ["atoms/{atom}/rename/", "environments/{environment}/rename/"])
@pytest.mark.parametrize("name", ["x" * 81, "a\u202eb", "second atom", "TEST"])
def test_renaming_keeps_the_same_rules(stage: Stage, route: str, name: str) -> None:
    address = route.format(atom=stage.atom.pk, environment=stage.production.pk)
    allowed = (name, route[:5]) in {("second atom", "envir"), ("TEST", "atoms")}
    answer = stage.cast.client("alice").post(f"/accounts/{stage.account.code}/{address}", {"name": name})
    assert answer.status_code == (302 if allowed else 200)
    stage.atom.refresh_from_db()
    stage.production.refresh_from_db()
    assert allowed or (stage.atom.name, stage.production.name) == ("Orders Atom", "Production")


def test_two_fields_of_one_connection_cannot_share_an_id(stage: Stage) -> None:
    form = {"name": "Twice", "fields-TOTAL_FORMS": "2", "fields-INITIAL_FORMS": "0"}
    for number in range(2):
        form |= {f"fields-{number}-key": "password", f"fields-{number}-label": f"Label {number}"}
    answer = stage.cast.client("alice").post(f"/accounts/{stage.account.code}/connections/new/", form)
    assert "Another field has the id password." in answer.content.decode()
    assert not Connection.objects.filter(name="Twice").exists()
