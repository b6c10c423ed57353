"""The Environment Extensions dialog in a real browser: what is missing is found, and no stored value goes away unasked."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from extensions.connections import FieldSpec, save_connection
from extensions.models import ExtensionValue
from tests.browser import steps
from tests.browser.visit import Visit, enrolled, save_as, tab_to
from tests.conftest import Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
TYPED = "typed beside it 5d1e"
LOSERS = "2 Atoms lose it. 1 container has it now and drops it at its next contact."


def more_connections(stage: Stage) -> None:
    """Two more, each with a secret that is missing: with so many the page begins with the first one alone."""
    for name in ("Archive", "Billing"):
        specs = [FieldSpec(None, "token", f"{name} token", True, True, "")]
        save_connection(stage.account, None, name=name, fields=specs, actor=stage.alice)


def shown(page: Page) -> list[str]:
    """Labels of the fields that are in sight."""
    rows = page.locator("[data-ext]").filter(visible=True)
    return rows.locator(".label").all_inner_texts()


MISSING = ["Archive token", "Billing token", "API key"]


@pytest.mark.parametrize("scripted", [True, False], ids=["with script", "without script"])
def test_missing_shows_what_it_counts(visit: Callable[..., Visit], scripted: bool) -> None:
    alice = visit(java_script_enabled=scripted)
    save_as(alice.stage)
    more_connections(alice.stage)
    page = alice.extensions(query="")
    link = page.get_by_role("link", name="Missing")
    expect(link).to_have_text("Missing 3")
    link.click()
    expect(page.get_by_role("link", name="Missing")).to_have_attribute("aria-current", "true")
    assert shown(page) == MISSING
    page.reload()
    assert shown(page) == MISSING
    assert alice.extensions(query="?show=missing") is page
    assert shown(page) == MISSING
    page.get_by_role("link", name="Set").click()
    expect(page.get_by_role("link", name="Set")).to_have_text("Set 3")
    assert shown(page) == ["Host", "User", "Password"]
    assert alice.complaints == []


def test_missing_looks_beyond_the_connection_that_was_chosen(visit: Callable[..., Visit]) -> None:
    alice = visit()
    save_as(alice.stage)
    more_connections(alice.stage)
    page = alice.extensions(query="")
    steps.choose_connection(page, "Orders database")
    page.get_by_role("link", name="Missing").click()
    assert shown(page) == MISSING
    expect(page.locator("#extensions-connection")).to_have_value("")
    steps.choose_connection(page, "Billing")
    assert shown(page) == ["Billing token"]


@pytest.mark.parametrize("scripted", [True, False], ids=["with script", "without script"])
def test_a_stored_value_is_removed_after_reading_who_loses_it(visit: Callable[..., Visit], scripted: bool) -> None:
    """In one save, so that a secret typed beside it is lost in neither case."""
    alice = visit(java_script_enabled=scripted)
    save_as(alice.stage)
    enrolled(alice.stage)
    page = alice.extensions()
    part = page.get_by_role("region", name="Orders database")
    box = page.get_by_label("Remove Password of Orders database from Production on save")
    expect(box).to_be_hidden()
    steps.remove_secret(part, "Password")
    expect(part.get_by_text(LOSERS)).to_be_visible()
    part.get_by_text("The stored value is removed on save").click()
    expect(box).to_be_hidden()
    expect(part.get_by_text("The stored value is removed on save")).to_be_visible()
    steps.type_secret(part, "API key", TYPED)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved as revision 2: 2 changed.").first).to_be_visible()
    held = ExtensionValue.objects.filter(form="sealed").values_list("field__key", flat=True)
    assert list(held) == ["apiKey"]
    assert alice.complaints == []


def test_a_value_is_removed_with_the_keyboard_alone(visit: Callable[..., Visit]) -> None:
    alice = visit()
    save_as(alice.stage)
    page, key = alice.extensions(), alice.stage.field("password").pk
    tab_to(page, f"#removal-{key} summary")
    page.keyboard.press("Enter")
    tab_to(page, f"#clear-{key}")
    page.keyboard.press("Space")
    tab_to(page, "#extensions-save")
    page.keyboard.press("Enter")
    expect(page.locator("#extensions-form .saved")).to_contain_text("Saved")
    assert not ExtensionValue.objects.filter(form="sealed").exists()


def test_it_asks_in_place_when_more_would_lose_it_than_was_read(visit: Callable[..., Visit]) -> None:
    alice = visit()
    save_as(alice.stage)
    page = alice.extensions()
    part = page.get_by_role("region", name="Orders database")
    steps.remove_secret(part, "Password")
    steps.type_secret(part, "API key", TYPED)
    enrolled(alice.stage)
    page.get_by_role("button", name="Save", exact=True).click()
    question = page.get_by_role("alert")
    expect(question).to_contain_text("Not saved yet: remove 1 stored value from Production?")
    expect(question).to_contain_text(LOSERS)
    expect(question).to_be_focused()
    typed = page.locator(f"#secret-{alice.stage.field('apiKey').pk}")
    expect(typed).to_have_value(TYPED)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")  # no colour halfway
        assert Axe().run(page).response["violations"] == []
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_be_hidden()
    assert ExtensionValue.objects.filter(form="sealed").count() == 1

    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Remove 1 value and save").click()
    expect(page.locator("#extensions-form .saved")).to_contain_text("Saved as revision 2: 2 changed.")
    held = ExtensionValue.objects.filter(form="sealed").values_list("field__key", flat=True)
    assert list(held) == ["apiKey"]
    assert alice.complaints == []


def test_enter_confirms_no_question(visit: Callable[..., Visit]) -> None:
    alice = visit()
    save_as(alice.stage)
    page = alice.extensions()
    steps.remove_secret(page.get_by_role("region", name="Orders database"), "Password")
    enrolled(alice.stage)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#removal-confirm")).to_be_visible()
    page.get_by_role("region", name="Orders database").get_by_label("Host", exact=True).press("Enter")
    expect(page.locator("#extensions-form")).not_to_have_attribute("data-busy", "")
    expect(page.locator("#removal-confirm")).to_be_visible()
    assert ExtensionValue.objects.filter(form="sealed").count() == 1


def test_after_a_conflict_a_removal_is_thought_of_anew(visit: Callable[..., Visit]) -> None:
    alice = visit()
    save_as(alice.stage)
    page = alice.extensions()
    steps.remove_secret(page.get_by_role("region", name="Orders database"), "Password")
    save_as(alice.stage)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="keep what I typed").click()
    expect(page.locator("#extensions-errors")).to_be_empty()
    expect(page.locator(f"#clear-{alice.stage.field('password').pk}")).not_to_be_checked()
