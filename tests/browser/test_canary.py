"""A secret typed into a browser is nowhere in it afterwards: not in the page, its storage, its history or its profile."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserType, Page, expect

from tests.browser import steps
from tests.conftest import PASSWORD
from tests.invariants.leaks import Scan
from tests.live import LivePortal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser, pytest.mark.slow]
STORED = """() => JSON.stringify([
  {...localStorage}, {...sessionStorage}, history.state, location.href, document.cookie, window.name,
  [...document.querySelectorAll("input, textarea")].map((input) => [input.value, input.defaultValue]),
])"""


def seen(page: Page) -> str:
    return page.content() + str(page.evaluate(STORED))


def test_a_browser_keeps_nothing_of_a_secret(
    portal: LivePortal, browser_type: BrowserType, browser_type_launch_args: dict[str, object], tmp_path: Path
) -> None:
    stage, canaries = portal.stage, {"refused": "canary-refused-8b1d77", "saved": "canary-saved-52e0c9"}
    dialog = f"{portal.url}/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
    context = browser_type.launch_persistent_context(tmp_path / "profile", **browser_type_launch_args)  # type: ignore[arg-type]
    page = context.new_page()
    steps.sign_in(page, portal.url, stage.alice.email, PASSWORD)
    page.goto(dialog)
    part = steps.choose_connection(page, "Orders database")
    steps.type_secret(part, "Password", canaries["refused"])
    steps.type_secret(part, "API key", "****")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("mark for a hidden value")
    assert part.get_by_label("New value of Password").input_value() == canaries["refused"], "what was typed is lost"

    part.get_by_label("New value of API key").fill(canaries["saved"])
    part.get_by_label("New value of Password").fill(canaries["saved"])
    steps.save_extensions(page)
    assert not re.search("canary-(refused|saved)", seen(page))
    kept = page.evaluate("[...Object.keys(localStorage), ...Object.keys(sessionStorage)]")
    assert set(kept) <= {"htmx-current-path-for-history"}  # an address, and no page

    page.goto(f"{portal.url}/")
    page.go_back()
    expect(page.locator("#extensions-form")).to_be_visible()
    assert not re.search("canary-(refused|saved)", seen(page))

    page.get_by_role("button", name="Sign out").or_(page.locator("summary", has_text=stage.alice.email)).first.click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(dialog)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.go_back()
    assert stage.production.name not in page.content()
    context.close()

    scan = Scan(canaries)
    scan.files(tmp_path / "profile")
    assert scan.scanned > 100_000
    assert scan.hits == set()
