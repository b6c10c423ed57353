"""Alarms, the kill switch and the self-check in a real browser: accessible, within the screen, and true without a reload."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from atoms import revocation
from atoms.models import Node
from tests.browser.accessibility import faults_at
from tests.browser.visit import Visit, enrolled, save_as
from tests.vaults.logins.made_logins import forged
from vaults.logins import watch
from vaults.models import LoginAlarm, SelfCheckResult

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SOON = 30_000  # ms; the worker may be looking for readers just then


def troubled(at: Visit) -> tuple[LoginAlarm, revocation.Receipt]:
    """An alarm that stands and one whose login was destroyed, a node that proves, one that fails, one that was revoked."""
    stage = at.stage
    save_as(stage)
    forged("environments", stage.production.pk, {"atom": str(stage.atom.pk)})
    forged("atoms", stage.second.pk)
    while not watch.scan():
        pass  # the portal's own worker is at it
    LoginAlarm.objects.filter(mount="atoms").update(destroyed_at=timezone.now())
    now = timezone.now()
    for name, code in (("orders-01.example", ""), ("orders-02.example", "data_key_missing")):
        SelfCheckResult.objects.create(
            node=enrolled(stage, name),
            challenge=b"",
            asked_at=now,
            proved_at=now - timedelta(minutes=3),
            environment=stage.production,
            code=code,
            failed_at=now if code else None,
        )
    gone = Node.objects.get(pk=enrolled(stage, "orders-03.example").pk)
    revocation.revoke_node(gone, actor=stage.alice)
    receipt = revocation.receipts_of(stage.atom)[0]
    return LoginAlarm.objects.get(mount="environments"), receipt


@pytest.mark.slow
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_the_pages_are_accessible_and_fit_the_screen(visit: Callable[..., Visit], theme: str, width: int) -> None:
    alice = visit()
    alarm, receipt = troubled(alice)
    stage, page = alice.stage, alice.page
    page.context.add_cookies([{"name": "theme", "value": theme, "url": alice.portal.url}])
    node = stage.atom.nodes.exclude(state=Node.State.REVOKED).first()
    pages = [
        ("vaults:kms_account",),
        ("vaults:login_alarm_destroy", alarm.pk),
        ("vaults:login_alarm_close", alarm.pk),
        ("vaults:kms_panel", stage.atom.pk),
        ("atoms:atom_detail", stage.atom.pk),
        ("atoms:atom_revoke", stage.atom.pk),
        ("atoms:atom_revoke", stage.second.pk),
        ("atoms:node_revoke", stage.atom.pk, node.pk),
        ("atoms:revocation", stage.atom.pk, receipt.operation.pk),
    ]
    assert faults_at(page, [alice.address(*one) for one in pages], [width]) == []
    assert alice.complaints == []


def test_a_revocation_says_how_it_goes_without_a_reload(visit: Callable[..., Visit]) -> None:
    alice = visit()
    stage = alice.stage
    save_as(stage)
    node = enrolled(stage)
    page = alice.go("atoms:atom_detail", stage.atom.pk)
    page.get_by_role("link", name=f"Revoke {node}").click()
    page.get_by_role("button", name="Revoke 1 node").click()
    expect(page.locator("#revocation")).to_contain_text("It had no credentials there", timeout=SOON)
    expect(page.locator("#revocation")).to_contain_text("still holds 4 values of Production")
    page.get_by_role("link", name=f"Back to {stage.atom.name}").click()
    expect(page.locator("#atom-detail")).to_contain_text("refused by the portal after")
    assert alice.complaints == []


def test_an_alarm_is_met_on_any_page_and_ended_there(visit: Callable[..., Visit]) -> None:
    alice = visit()
    forged("environments", alice.stage.production.pk)
    while not LoginAlarm.objects.exists():
        watch.scan()
    page = alice.go("atoms:atom_management")
    page.get_by_role("link", name="See what to do").click()
    page.get_by_role("link", name="Destroy this login").click()
    page.get_by_role("button", name="Destroy 1 login").click()
    expect(page.locator("#kms-account")).to_contain_text("that nobody enrolled was destroyed", timeout=SOON)
    page.get_by_role("link", name="Close: I know what this is").click()
    page.get_by_label("What it is").fill("a drill of ours")
    page.get_by_role("button", name="Close 1 alarm").click()
    expect(page.locator("#kms-account")).to_contain_text("All enrolled", timeout=SOON)
    assert alice.complaints == []
