"""Removing a stored value: named, counted and confirmed before it is saved; nothing else that was typed is lost by asking."""

import re
from html import unescape

import pytest
from django.utils import timezone

from atoms.models import Node
from extensions.models import ExtensionValue
from tests.conftest import Stage
from tests.extensions.dialog import Dialog
from vaults.models import ContainerReport

pytestmark = pytest.mark.django_db(transaction=True)
GONE = "Password of Orders database is removed from Production for good: nobody can bring it back."


@pytest.fixture
def dialog(stage: Stage) -> Dialog:
    """Password and API key are stored in revision 1, which one container has."""
    found = Dialog(stage)
    found.post(secret_password="stored", secret_apiKey="stored")
    report(stage, revision=1)
    return found


def report(stage: Stage, revision: int, state: str = "enrolled") -> None:
    """One more container, and what it last said it holds."""
    node = Node.objects.create(atom=stage.atom, host_name=f"host {revision}", state=state)
    ContainerReport.objects.create(
        node=node, reported_at=timezone.now(), environment=stage.production, revision=revision
    )


def token(page: str, stage: Stage, key: str = "password") -> str:
    """What the box of a field sends."""
    found = re.search(rf'name="clear\.{stage.field(key).pk}" value="([^"]*)"', page)
    assert found is not None
    return found[1]


def answer_of(page: str) -> str:
    """What the question's button sends."""
    found = re.search(r'name="confirmed" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def field(dialog: Dialog) -> object:
    return dialog.stage.field("password").pk


def is_stored(stage: Stage, key: str = "password") -> bool:
    return ExtensionValue.objects.filter(environment=stage.production, field=stage.field(key), form="sealed").exists()


def words(text: str) -> str:
    return unescape(" ".join(text.split()))


@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize("sent", ["on", "1", "", "x-y-z", "1-2-1"])
def test_nothing_stored_is_removed_unconfirmed(dialog: Dialog, sent: str, htmx: bool) -> None:
    answer = dialog.post(
        htmx=htmx, clear_password=sent, secret_password="", secret_apiKey="typed", value_user="typed too"
    )
    text = words(answer.content.decode())
    assert answer.status_code == 422
    assert "Not saved yet: remove 1 stored value from Production?" in text
    assert f"{GONE} 2 Atoms lose it. 1 container has it now and drops it at its next contact." in text
    assert (is_stored(dialog.stage), dialog.revision()) == (True, 1)
    assert "typed<" not in text.replace("typed too<", ""), "a secret is never sent back"
    if htmx:  # only the question is swapped in: what was typed stays where it is
        assert answer.headers["HX-Retarget"] == "#extensions-errors"
        assert "<textarea" not in text
    else:
        assert "typed too</textarea>" in text
        assert "Type these again before you confirm" in text


def test_the_page_says_what_follows_beside_the_box_that_confirms_it(dialog: Dialog) -> None:
    page = dialog.page()
    assert f"{GONE} 2 Atoms lose it. 1 container has it now" in words(page)
    assert "Remove Password of Orders database from Production on save" in words(page)
    typed = {"clear_password": token(page, dialog.stage), "secret_password": "", "secret_apiKey": "a new one"}
    assert dialog.post(**typed).status_code == 302, "one post, so a secret typed beside it is saved and not typed again"
    assert not is_stored(dialog.stage)
    assert ("apiKey", 2) in dialog.holds()


def test_the_question_is_confirmed_for_all_that_it_names(dialog: Dialog) -> None:
    asked = {"clear_password": "on", "clear_apiKey": "on"}
    question = dialog.post(htmx=True, **asked).content.decode()
    assert "Remove 2 values and save" in words(question)
    assert dialog.post(htmx=True, confirmed=answer_of(question), **asked).status_code == 200
    assert not is_stored(dialog.stage)
    assert not is_stored(dialog.stage, "apiKey")


@pytest.mark.parametrize("bad", [False, True])
def test_a_secret_to_be_typed_again_is_not_left_out_quietly(dialog: Dialog, bad: bool) -> None:
    """Without script a page that asks something back has lost what was typed into secrets."""
    typed = {"value_host": "\0"} if bad else {"clear_password": "on"}
    page = dialog.post(secret_apiKey="typed once", **typed).content.decode()
    asked = re.findall(r'<input type="hidden" name="(retype\.[^"]+)" value="1">', page)
    assert asked == [f"retype.{dialog.stage.field('apiKey').pk}"]
    again = {asked[0]: "1", "clear_password": token(page, dialog.stage)}
    answer = dialog.post(**again, **({} if bad else {"confirmed": answer_of(page)}))
    assert answer.status_code == 422
    assert "Type this secret again: it was not kept." in words(answer.content.decode())
    assert (is_stored(dialog.stage), dialog.revision()) == (True, 1)
    assert "retype." not in answer.content.decode(), "saving once more leaves what is stored"
    again["clear_password"] = token(answer.content.decode(), dialog.stage)
    assert dialog.post(**again, secret_apiKey="typed again").status_code == 302, "the question is not asked twice"
    assert ("apiKey", 2) in dialog.holds()


@pytest.mark.parametrize("sent", ["on", ""])
def test_a_page_that_comes_back_confirms_nothing_by_itself(dialog: Dialog, sent: str) -> None:
    """An attack that succeeded: another mistake hid the question, and mending that sent a box ticked with a new token."""
    wrong = {"property.0.name": "", "property.0.value": "a property without a name"}
    page = dialog.post(clear_password=sent, **wrong).content.decode()
    mended = dialog.post(clear_password=token(page, dialog.stage))
    assert (mended.status_code, is_stored(dialog.stage)) == (422, True)
    assert "Not saved yet: remove 1 stored value" in words(mended.content.decode())
    again = dialog.post(clear_password=token(mended.content.decode(), dialog.stage))
    assert (again.status_code, is_stored(dialog.stage)) == (422, True), "Save beside the question is no answer to it"


def test_what_is_confirmed_for_one_value_removes_no_other(dialog: Dialog) -> None:
    confirmed = f"{dialog.stage.field('password').pk}={token(dialog.page(), dialog.stage)}"
    answer = dialog.post(confirmed=confirmed, clear_password="on", clear_apiKey="on")
    assert answer.status_code == 422
    assert "remove 1 stored value" in words(answer.content.decode())
    assert is_stored(dialog.stage)
    assert is_stored(dialog.stage, "apiKey")


def test_only_the_very_text_that_was_shown_confirms(dialog: Dialog) -> None:
    read = token(dialog.page(), dialog.stage)
    wide = read.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})
    for sent in (read.upper(), read[:-1], f"{read}0", wide, "1-2-1", "1-9-9"):
        for typed in ({"clear_password": sent}, {"clear_password": "on", "confirmed": f"{field(dialog)}={sent}"}):
            assert dialog.post(**typed).status_code == 422
            assert is_stored(dialog.stage)


def test_it_asks_again_when_others_would_lose_it_than_was_shown(dialog: Dialog) -> None:
    read = token(dialog.page(), dialog.stage)
    report(dialog.stage, revision=3)
    answer = dialog.post(clear_password=read)
    assert answer.status_code == 422
    assert "2 containers have it now and drop it at their next contact." in words(answer.content.decode())
    Node.objects.update(state=Node.State.REVOKED)
    answer = dialog.post(clear_password=read)
    assert answer.status_code == 422
    assert "No container has it." in words(answer.content.decode())
    confirmed = answer_of(answer.content.decode())
    assert dialog.post(clear_password=read, confirmed=confirmed).status_code == 302


def test_a_container_that_holds_an_earlier_revision_is_not_counted(dialog: Dialog) -> None:
    dialog.post(secret_password="newer")
    assert f"{GONE} 2 Atoms lose it. No container has it." in words(dialog.page())


def test_a_value_replaced_meanwhile_is_not_removed(dialog: Dialog) -> None:
    read = token(dialog.page(), dialog.stage)
    dialog.post(secret_password="newer")
    assert dialog.post(expected=1, clear_password=read).status_code == 409
    assert dialog.post(expected=2, clear_password=read).status_code == 422
    assert is_stored(dialog.stage)


def test_a_field_without_a_stored_value_offers_nothing_to_remove(stage: Stage) -> None:
    assert "clear." not in Dialog(stage).page()
