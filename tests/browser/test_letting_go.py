"""Letting go of what was taken away past the portal, in a real browser: without script, by keyboard alone, small and dark."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from extensions.models import ExtensionValue, Field
from tests.browser.accessibility import faults_at, faults_shown
from tests.browser.visit import Visit, save_as, tab_to
from tests.conftest import Stage
from tests.security.rows import write

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


def take_away(stage: Stage) -> None:
    save_as(stage)
    field = stage.field("password")
    ExtensionValue.objects.filter(field=field).delete()
    write(Field, field.pk, None)


@pytest.mark.parametrize("script", [True, False])
def test_an_administrator_lets_go_by_keyboard_with_and_without_script(
    visit: Callable[..., Visit], script: bool
) -> None:
    alice = visit("alice", java_script_enabled=script)
    take_away(alice.stage)
    page = alice.extensions()
    tab_to(page, "#changed-past a")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Let go of what was changed past the portal?")
    expect(page.locator("main")).to_contain_text("password, an encrypted value saved")
    tab_to(page, "#id_name")
    page.keyboard.type("Production")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("Saved as revision 2, without what was let go of.")
    expect(page.locator("#changed-past")).to_have_count(0)
    assert alice.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_its_pages_are_accessible_and_fit_a_phone(visit: Callable[..., Visit], theme: str) -> None:
    alice = visit()
    take_away(alice.stage)
    page, key = alice.page, alice.stage.production.pk
    page.context.add_cookies([{"name": "theme", "value": theme, "url": alice.portal.url}])
    addresses = [alice.address(f"extensions:environment_{name}", key) for name in ("extensions", "let_go")]
    assert faults_at(page, addresses) == []
    Field.objects.filter(pk=alice.stage.field("user").pk).update(label="Password")  # a page that has but a way out
    page.goto(addresses[0])
    assert faults_shown(page, "forged") == []
    assert alice.complaints == []
