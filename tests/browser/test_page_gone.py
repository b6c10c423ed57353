"""A page that stays open when what it is about is deleted, or hidden from whoever reads it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from accounts.models import Role
from atoms import actions as atoms
from tests.browser.visit import Visit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


@pytest.mark.parametrize("how", ["deleted", "hidden"])
def test_an_open_page_says_that_it_is_gone_and_goes_on_saying_it(visit: Callable[..., Visit], how: str) -> None:
    reader = visit("bob")
    stage = reader.stage
    page = reader.go("atoms:atom_detail", stage.atom.pk)
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders Atom")
    if how == "deleted":
        atoms.delete_atom(stage.atom, actor=stage.alice)
    else:
        atoms.set_environment_roles(stage.production, [Role.objects.get(name="Support")], actor=stage.alice)
    expect(page.locator("#network")).to_contain_text(
        "This no longer exists, or you may no longer see it.", timeout=15_000
    )
    with page.expect_response(
        lambda answer: "/atoms/tree/" in answer.url and answer.status in (200, 304), timeout=15_000
    ):
        pass
    expect(page.locator("#tree")).not_to_contain_text("Orders Atom")
    expect(page.locator("#network")).to_be_visible()
    expect(page.locator("#atom-detail")).not_to_have_attribute("data-poll", "5")
    reader.complaints.clear()  # the browser itself tells the console of the 404
