"""The pages of rotation and re-keying in a real browser: accessible, within the screen, and undisturbed by their polling."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from atoms.models import Node
from operations.work import sweep
from tests.browser.accessibility import faults_at
from tests.browser.visit import Visit, enrolled, save_as
from tests.vaults.keys import rotations as look
from vaults.keys.rekey import request_rekey
from vaults.keys.rotation import request_rotation_of_all, set_schedule
from vaults.models import KmsAccount, Recipient, RecipientRotation

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


def lived_in(at: Visit) -> None:
    """One environment rotated last month, all keys being rotated now, two containers asked, one of them away."""
    stage = at.stage
    save_as(stage)
    look.finished(look.rotate(stage, stage.production))
    Recipient.objects.filter(pk=stage.production.pk).update(rotated_at=timezone.now() - timedelta(days=31))
    set_schedule(stage.account, 90, actor=stage.alice)
    enrolled(stage)
    Node.objects.create(
        atom=stage.second,
        host_name="far-away.example",
        state="enrolled",
        last_seen_at=timezone.now() - timedelta(days=3),
    )
    request_rekey(stage.account, [stage.atom, stage.second], actor=stage.alice)
    request_rotation_of_all(stage.account, actor=stage.alice)
    sweep()
    assert RecipientRotation.objects.filter(state="rewrapped").exists()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_are_accessible_and_fit_the_screen(visit: Callable[..., Visit], theme: str) -> None:
    alice = visit()
    lived_in(alice)
    stage, page = alice.stage, alice.page
    page.context.add_cookies([{"name": "theme", "value": theme, "url": alice.portal.url}])
    pages = [
        ("vaults:kms_account",),
        ("vaults:rotate_all",),
        ("vaults:rotate_environment", stage.production.pk),
        ("vaults:rotate_atom", stage.atom.pk),
        ("vaults:rekey_all",),
        ("vaults:rekey_atom", stage.second.pk),
        ("vaults:kms_panel", stage.atom.pk),
        ("atoms:environment_detail", stage.production.pk),
    ]
    assert faults_at(page, [alice.address(*one) for one in pages]) == []
    assert alice.complaints == []


def test_a_choice_that_is_not_saved_yet_outlives_the_polling(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.go("vaults:kms_account")
    choice = page.get_by_label("Rotate all keys by schedule")
    expect(choice).to_have_value("0")
    choice.select_option("30")
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        pass
    page.wait_for_timeout(300)
    expect(choice).to_have_value("30")
    page.get_by_role("button", name="Save schedule").click()
    expect(page.get_by_text("The schedule was saved.")).to_be_visible()
    expect(page.get_by_text("All keys are rotated next on")).to_be_visible()
    assert KmsAccount.objects.get(account=alice.stage.account).rotate_every == 30


def test_all_keys_are_rotated_with_two_clicks_and_the_card_shows_how_far_it_is(visit: Callable[..., Visit]) -> None:
    alice = visit()
    save_as(alice.stage)
    page = alice.go("vaults:kms_account")
    page.get_by_role("link", name="Rotate all keys…").click()
    expect(page.get_by_role("main")).to_contain_text("1 wrapped data key is rewrapped")
    page.get_by_role("button", name="Rotate 4 keys").click()
    expect(page.get_by_text("The rotation was asked for")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("Rotate the in-transit keys of 4 environments and Atoms")
    expect(page.get_by_role("link", name="Rotate all keys…")).to_have_count(0)
