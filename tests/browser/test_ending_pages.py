"""The end of an account's keys in a real browser: put away, brought back, destroyed by two people; accessible everywhere."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from accounts import actions as accounts
from accounts.models import Role, User
from accounts.privileges import ADMINISTRATOR
from operations.models import Operation
from operations.work import sweep
from tests.browser.accessibility import faults_at
from tests.browser.visit import Visit, enrolled, save_as
from tests.conftest import PASSWORD, Stage
from vaults.keys.losses import mark_lost
from vaults.models import DataKey, ShredCertificate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser, pytest.mark.slow]
SOON = 30_000  # ms; a worker has to come by


def shred_worker() -> None:
    """The shred worker's turn; the live portal of the tests has none."""
    while not sweep(queues=["shred"]):
        pass


def second_administrator(stage: Stage) -> None:
    dora = User.objects.create_user("dora@example.com", PASSWORD)
    accounts.add_member(stage.account, dora, [Role.objects.get(pk=ADMINISTRATOR)], actor="tests")
    stage.cast.dora = dora  # type: ignore[attr-defined]


def typed(at: Visit, button: str) -> None:
    at.page.get_by_label("Type").fill(at.stage.account.code)
    at.page.get_by_role("button", name=button).click()


def test_put_away_brought_back_and_destroyed_by_two(visit: Callable[..., Visit]) -> None:
    alice = visit()
    stage, page = alice.stage, alice.page
    save_as(stage)
    second_administrator(stage)
    alice.go("vaults:kms_account")
    page.get_by_role("link", name="Disable the Key Management Service").click()
    page.get_by_label("Type").fill("something else")
    page.get_by_role("button", name="Disable and cut off").click()
    expect(page.locator("main")).to_contain_text("This is not the account's code")
    expect(page.get_by_label("Days until the keys are shredded")).to_have_value("30")
    typed(alice, "Disable and cut off")
    expect(page.locator("#kms-account")).to_contain_text("Every container is cut off", timeout=SOON)
    page.get_by_role("link", name="Undo: enable again").click()
    page.get_by_role("button", name="Enable for").click()
    expect(page.locator("#kms-account")).to_contain_text("Encrypted values are sealed on save", timeout=SOON)
    expect(page.locator("#kms-account")).not_to_contain_text("Make the roles", timeout=SOON)

    page.get_by_role("link", name="Disable the Key Management Service").click()
    typed(alice, "Disable and cut off")
    page.get_by_role("link", name="Shred the keys now").click()
    typed(alice, "Ask for shredding")
    expect(page.locator("#kms-account")).to_contain_text("Nothing is destroyed before a second administrator approves")
    dora = visit("dora")
    dora.go("vaults:kms_account")
    dora.page.get_by_role("link", name="Look at it and approve").click()
    typed(dora, "Approve and shred")
    shred_worker()
    expect(page.locator("#kms-account")).to_contain_text("The keys of this account are destroyed", timeout=SOON)
    page.get_by_role("link", name="Keys shredded on").click()
    expect(page.locator("main")).to_contain_text("Production")
    expect(page.locator("main")).not_to_contain_text("was changed")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.startswith("shred-certificate-")
    alice.go("vaults:kms_account")
    page.get_by_role("link", name="The re-entry worklist").click()
    expect(page.locator("main")).to_contain_text("Orders database")
    assert alice.complaints == dora.complaints == []


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_the_pages_are_accessible_and_fit_the_screen(visit: Callable[..., Visit], theme: str, width: int) -> None:
    from vaults.keys import disable, shred

    alice, found = visit(), []
    stage, page = alice.stage, alice.page
    save_as(stage)
    enrolled(stage)
    second_administrator(stage)
    page.context.add_cookies([{"name": "theme", "value": theme, "url": alice.portal.url}])

    def look(*pages: tuple[object, ...]) -> None:
        found.extend(faults_at(page, [alice.address(str(name), *ids) for name, *ids in pages], [width]))

    look(("vaults:kms_disable",))
    disable.disable_kms(stage.account, days=30, actor=stage.alice)
    sweep()
    look(("vaults:kms_account",), ("vaults:kms_enable",), ("vaults:kms_shred",), ("vaults:kms_panel", stage.atom.pk))
    operation = shred.request_shred(stage.account, actor=stage.alice)
    look(("vaults:kms_account",), ("vaults:kms_shred_approve",), ("operations:operation_detail", operation.pk))
    shred.approve_shred(operation, actor=User.objects.get(email="dora@example.com"))
    shred_worker()
    certificate = ShredCertificate.objects.get()
    mark_lost(DataKey.objects.all(), DataKey.LostBecause.SHREDDED)
    done = Operation.objects.get(kind="vaults.disable")
    look(
        ("vaults:kms_account",),
        ("vaults:shred_certificate", certificate.pk),
        ("vaults:kms_enable",),
        ("extensions:reentry_list",),
        ("extensions:environment_extensions", stage.production.pk),
        ("operations:operation_detail", done.pk),
        ("operations:operation_list",),
    )
    assert found == []
    assert alice.complaints == []
