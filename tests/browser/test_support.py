"""The support staff's pages in a real browser: accessible, quiet, and within the screen."""

from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from accounts import actions as accounts
from accounts.models import User
from tests.browser import steps
from tests.browser.accessibility import faults_at
from tests.browser.visit import enrolled, save_as
from tests.conftest import PASSWORD
from tests.kmsportal.support.records import page_of, rows
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
    addresses = ["/support/", page_of(stage.atom).list_address()]
    for row in rows(stage):
        addresses += [page_of(row).address(row), *(page_of(row).address(row, act.name) for act in page_of(row).acts)]
    addresses += [f"{page_of(row).list_address()}?q={stage.account.code}" for row in rows(stage)[-4:]]
    assert faults_at(page, [portal.url + address for address in addresses], [width]) == []
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
