"""The session ends while a page is open; then something is sent from it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from extensions.models import ExtensionValue
from tests.browser import steps
from tests.browser.visit import Visit
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


def end_the_session(page: Page) -> None:
    kept = [cookie for cookie in page.context.cookies() if not cookie["name"].startswith("session")]
    page.context.clear_cookies()
    page.context.add_cookies(kept)  # type: ignore[arg-type]  # what it gave is what it takes


def sign_in_again(page: Page, email: str) -> None:
    page.locator("[name=login]").fill(email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[name=password]").press("Enter")


@pytest.mark.parametrize("scripted", [True, False], ids=["with script", "without script"])
def test_a_rename_leads_back_to_the_atom_and_changes_nothing(visit: Callable[..., Visit], scripted: bool) -> None:
    alice = visit(java_script_enabled=scripted)
    page = alice.go("atoms:atom_detail", alice.stage.atom.pk)
    end_the_session(page)
    page.get_by_role("main").get_by_label("Name", exact=True).fill("Another name")
    page.get_by_role("main").get_by_role("button", name="Rename").click()
    sign_in_again(page, alice.stage.alice.email)
    expect(page.locator("#messages")).to_contain_text("Nothing was changed")
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders Atom")
    page.reload()
    expect(page.locator("#messages")).not_to_contain_text("Nothing was changed")


def test_a_save_by_script_keeps_what_was_typed_until_one_has_signed_in_elsewhere(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.extensions()
    steps.type_secret(page.get_by_role("region", name="Orders database"), "Password", "typed 71c2")
    end_the_session(page)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#network")).to_contain_text("Your session has ended. Nothing was saved.")
    with page.expect_popup() as opened:
        page.locator("#network").get_by_role("link", name="Sign in").click()
    sign_in_again(opened.value, alice.stage.alice.email)
    expect(opened.value.get_by_role("heading", level=1)).to_have_text("Environment Extensions")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#network")).to_contain_text("from before you signed in again")
    assert not ExtensionValue.objects.exists()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#extensions-form")).to_contain_text("Saved as revision 1")
    alice.complaints.clear()  # the browser itself tells the console of each 401 and 403


def test_a_page_that_is_only_looked_at_stays_and_says_it(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.extensions()
    end_the_session(page)
    expect(page.locator("#network")).to_contain_text("Your session has ended", timeout=15_000)
    expect(page.get_by_role("heading", level=1)).to_have_text("Environment Extensions")
    alice.complaints.clear()
