"""The support staff's pages in a real browser: accessible, quiet, and within the screen."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from accounts import actions as accounts
from accounts.models import User
from tests.browser import steps
from tests.browser.test_pages import enrolled, save_as
from tests.conftest import PASSWORD
from tests.kmsportal.test_support import page_of, rows
from tests.live import LivePortal
from vaults.models import KmsSettings, LoginAlarm

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


@pytest.mark.slow
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_the_support_staffs_pages_are_accessible_and_obey_the_content_policy(
    portal: LivePortal, browser: Browser, theme: str, width: int
) -> None:
    stage = portal.stage
    save_as(stage)
    enrolled(stage)
    KmsSettings.objects.create(atom=stage.atom)
    alarm = LoginAlarm(account=stage.account, mount="atoms", role=str(stage.atom.pk), accessor="never shown")
    alarm.save(force_insert=True)
    sam = User.objects.create_user("sam@support.example", PASSWORD)
    accounts.add_support_staff(sam)
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    complaints: list[Any] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.context.add_cookies([{"name": "theme", "value": theme, "url": portal.url}])
    steps.sign_in(page, portal.url, sam.email, PASSWORD)
    found, addresses = [], ["/support/", page_of(stage.atom).list_address()]
    for row in rows(stage):
        addresses += [page_of(row).address(row), *(page_of(row).address(row, act.name) for act in page_of(row).acts)]
    addresses += [f"{page_of(row).list_address()}?q={stage.account.code}" for row in rows(stage)[-4:]]
    page.set_viewport_size({"width": width, "height": 900})
    for address in addresses:
        answer = page.goto(portal.url + address)
        assert answer is not None
        assert answer.status == 200, address
        for violation in Axe().run(page).response["violations"]:
            found.append((address, violation["id"], violation["nodes"][0]["html"]))
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append((address, "wider than the screen", ""))
    assert found == []
    assert complaints == []


def test_support_finds_an_account_from_the_front_and_activates_its_kms(portal: LivePortal, browser: Browser) -> None:
    other = portal.stage.cast.other
    sam = User.objects.create_user("sam@support.example", PASSWORD)
    accounts.add_support_staff(sam)
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    steps.sign_in(page, portal.url, sam.email, PASSWORD)
    page.locator("#user-menu summary").click()
    page.get_by_role("link", name="Support", exact=True).click()
    page.get_by_label("What to look for").select_option(label="Accounts")
    page.get_by_label("Id, account code or e-mail address").fill(other.code)
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name=other.name).click()
    page.get_by_role("link", name="Activate KMS for 1 account").click()
    page.get_by_role("button", name="Activate KMS for 1 account").click()
    expect(page.get_by_role("button", name="Activate KMS for 1 account")).to_be_disabled()
    expect(page.get_by_role("main")).to_contain_text("active already")
