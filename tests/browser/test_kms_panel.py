"""The Key Management Service panel in a browser: one form, checked before Save, true everywhere without a reload."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.browser.accessibility import faults_shown
from tests.browser.visit import Visit, enrolled, save_as, tab_to
from tests.vaults.panel.panel import SAMPLE, TOKEN
from vaults.models import ContainerReport
from vaults.panel.settings import file_of, settings_of, with_settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
FAILED = [
    {"step": "dns", "state": "ok", "code": "ok", "detail": ""},
    {"step": "orphan", "state": "warning", "code": "token_dies_with_parent", "detail": ""},
    {"step": "decrypt", "state": "failed", "code": "wrapped_needs_decrypt", "detail": ""},
    {"step": "round_trip", "state": "skipped", "code": "skipped", "detail": ""},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "application.yaml"
    path.write_text(SAMPLE)
    return path


def open_panel(one: Visit) -> Page:
    return one.go("vaults:kms_panel", one.stage.atom.pk)


def turn_on(page: Page, file: Path) -> None:
    page.get_by_role("switch", name="Bring Your Own Vault").check()
    page.locator("#kms-file").set_input_files(file)
    expect(page.get_by_text("This file can be used")).to_be_visible()


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_the_switch_reveals_its_part_and_marks_unsaved_changes(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = open_panel(alice)
    switch, wrapped = (
        page.get_by_role("switch", name="Bring Your Own Vault"),
        page.get_by_label("Wrapped Encryption Key"),
    )
    expect(wrapped).to_be_disabled()
    expect(page.get_by_text("Needs Bring Your Own Vault.")).to_be_visible()
    expect(page.get_by_text("Current File:")).to_be_hidden()
    expect(page.get_by_text("Unsaved changes")).to_be_hidden()
    switch.check()
    expect(wrapped).to_be_enabled()
    for label in (
        "Current File:",
        "Select File to Upload (required)",
        "Choose a File",
        "No file chosen",
        "Unsaved changes",
    ):
        expect(page.get_by_text(label)).to_be_visible()
    switch.uncheck()
    expect(page.get_by_text("Unsaved changes")).to_be_hidden()
    assert alice.complaints == []


def test_every_other_browser_follows_within_five_seconds(visit: Callable[..., Visit], file: Path) -> None:
    alice, bob = visit(), visit("bob")
    node = enrolled(alice.stage)
    page, watching = open_panel(alice), open_panel(bob)
    watching.evaluate("window.neverReloaded = true")
    turn_on(page, file)
    save(page)
    expect(page.locator("#kms-settings .saved")).to_contain_text("Saved.")
    since = time.monotonic()
    expect(watching.locator("#kms-settings")).to_contain_text("application.yaml", timeout=6_000)
    expect(watching.locator("#kms-state")).to_contain_text("Switch pending", timeout=6_000)
    expect(watching.locator("#kms-panel")).to_contain_text("https://vault.example.com:8200", timeout=6_000)
    badge = watching.locator(f"#tree-atom-{alice.stage.atom.pk} .badge")
    expect(badge).to_have_text("Pending", timeout=6_000)
    assert time.monotonic() - since < 6, "5 s, with room"
    ContainerReport.objects.filter(node=node).update(settings_revision=2, source="byov", reported_at=timezone.now())
    expect(badge).to_have_text("BYOV", timeout=6_000)
    assert watching.evaluate("window.neverReloaded") is True
    assert TOKEN not in page.content() + watching.content()


def test_a_form_being_filled_in_is_not_swapped_away_and_the_conflict_says_who(
    visit: Callable[..., Visit], file: Path
) -> None:
    alice, other = visit(), visit()
    page, second = open_panel(alice), open_panel(other)
    turn_on(second, file)
    turn_on(page, file)
    save(page)
    expect(page.locator("#kms-settings .saved")).to_contain_text("Saved.")
    expect(second.locator("#kms-state")).to_contain_text("Bring Your Own Vault", timeout=6_000)
    expect(second.get_by_text("This file can be used")).to_be_visible()
    second.get_by_label("Wrapped Encryption Key").check()
    save(second)
    expect(second.locator("#kms-errors")).to_contain_text("these settings were changed meanwhile")
    expect(second.locator("#kms-errors")).to_contain_text("alice@example.com")
    assert not settings_of(with_settings(alice.stage.atom)).wrapped


def test_a_double_click_saves_once(visit: Callable[..., Visit], file: Path) -> None:
    alice = visit()
    page = open_panel(alice)
    turn_on(page, file)
    page.get_by_role("button", name="Save", exact=True).dblclick()
    expect(page.locator("#kms-settings .saved")).to_contain_text("Saved.")
    page.wait_for_timeout(500)
    assert settings_of(with_settings(alice.stage.atom)).revision == 2


def test_turning_off_asks_and_cancel_leaves_everything(visit: Callable[..., Visit], file: Path) -> None:
    alice = visit()
    enrolled(alice.stage)
    page = open_panel(alice)
    turn_on(page, file)
    save(page)
    expect(page.locator("#kms-current")).to_have_text("application.yaml")
    page.get_by_role("switch", name="Bring Your Own Vault").uncheck()
    save(page)
    expect(page.get_by_role("heading", name="Turn off Bring Your Own Vault for Orders Atom?")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("switch", name="Bring Your Own Vault")).to_be_checked()
    expect(page.get_by_text("Unsaved changes")).to_be_hidden()
    assert settings_of(with_settings(alice.stage.atom)).is_byov
    page.get_by_role("switch", name="Bring Your Own Vault").uncheck()
    save(page)
    page.get_by_role("button", name="Turn off and re-encrypt 4 values").click()
    expect(page.locator("#kms-confirm")).to_have_count(0)
    assert not settings_of(with_settings(alice.stage.atom)).is_byov
    expect(page.get_by_role("switch", name="Bring Your Own Vault")).not_to_be_checked()


def test_a_refused_save_keeps_the_chosen_file(visit: Callable[..., Visit], tmp_path: Path) -> None:
    alice = visit()
    page = open_panel(alice)
    broken = tmp_path / "broken.yaml"
    broken.write_text(SAMPLE.replace("https://", "ftp://"))
    page.get_by_role("switch", name="Bring Your Own Vault").check()
    page.locator("#kms-file").set_input_files(broken)
    expect(page.get_by_text("This file cannot be used yet")).to_be_visible()
    save(page)
    expect(page.locator("#kms-errors")).to_contain_text("broken.yaml has 1 error")
    expect(page.locator("#kms-file_error")).to_be_visible()
    assert page.locator("#kms-file").evaluate("one => one.files.length") == 1
    assert TOKEN not in page.content()
    assert file_of(with_settings(alice.stage.atom)) is None


def test_everything_works_without_script(visit: Callable[..., Visit], file: Path) -> None:
    alice = visit(java_script_enabled=False)
    page = open_panel(alice)
    page.locator("#kms-file").set_input_files(file)
    page.get_by_role("switch", name="Bring Your Own Vault").check()
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("This file can be used")).to_be_visible()
    expect(page.get_by_role("switch", name="Bring Your Own Vault")).to_be_checked()
    page.locator("#kms-wrapped").check()
    page.locator("#kms-file").set_input_files(file)
    save(page)
    expect(page.locator("#messages")).to_contain_text("Saved.")
    assert settings_of(with_settings(alice.stage.atom)).wrapped
    page.get_by_role("switch", name="Bring Your Own Vault").uncheck()
    page.locator("#kms-wrapped").uncheck()
    save(page)
    page.get_by_role("button", name="Turn off", exact=True).click()
    expect(page.locator("#messages")).to_contain_text("Saved.")
    assert not settings_of(with_settings(alice.stage.atom)).is_byov


def test_the_form_is_used_with_the_keyboard_alone(visit: Callable[..., Visit], file: Path) -> None:
    alice = visit()
    page = open_panel(alice)
    tab_to(page, "#kms-byov")
    page.keyboard.press("Space")
    tab_to(page, "#kms-wrapped")
    page.keyboard.press("Space")
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "kms-file":
            break
    assert page.evaluate("document.activeElement.id") == "kms-file"
    assert page.locator("label.button[for=kms-file]").evaluate("one => getComputedStyle(one).outlineStyle") != "none"
    page.locator("#kms-file").set_input_files(file)
    expect(page.get_by_text("This file can be used")).to_be_visible()
    tab_to(page, "#kms-save")
    page.keyboard.press("Enter")
    expect(page.locator("#kms-settings .saved")).to_contain_text("Saved.")
    assert settings_of(with_settings(alice.stage.atom)).wrapped


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_is_accessible_and_fits_the_screen(
    visit: Callable[..., Visit], file: Path, tmp_path: Path, theme: str
) -> None:
    alice = visit()
    save_as(alice.stage)
    node = enrolled(alice.stage)
    page = alice.page
    page.context.add_cookies([{"name": "theme", "value": theme, "url": alice.portal.url}])
    found: list[tuple[str, ...]] = []

    def look(state: str) -> None:
        found.extend(faults_shown(page, state))

    broken = tmp_path / "broken.yaml"
    broken.write_text("Unset\n" + SAMPLE.replace("https://", "ftp://"))
    open_panel(alice)
    look("hosted")
    page.get_by_role("switch", name="Bring Your Own Vault").check()
    page.locator("#kms-file").set_input_files(broken)
    expect(page.get_by_text("This file cannot be used yet")).to_be_visible()
    page.locator("#kms-preview summary").click()
    look("findings")
    turn_on(page, file)
    save(page)
    expect(page.locator("#kms-settings .saved")).to_contain_text("Saved.")
    look("saved")
    report = ContainerReport.objects.filter(node=node)
    report.update(verdict="switch_pending", preflight=FAILED, preflight_at=timezone.now())
    open_panel(alice)
    look("pending")
    token = {"ends": int(time.time()) + 86_000, "because": "explicit_max", "certain": True}
    report.update(verdict="ok", settings_revision=2, source="byov", preflight=FAILED[:2], token=token)
    open_panel(alice)
    look("token ends")
    page.get_by_role("switch", name="Bring Your Own Vault").uncheck()
    save(page)
    expect(page.get_by_role("button", name="Turn off and re-encrypt 4 values")).to_be_visible()
    look("consequences")
    alice.go("vaults:kms_policy", alice.stage.atom.pk)
    look("policy")
    assert found == []
    assert alice.complaints == []
