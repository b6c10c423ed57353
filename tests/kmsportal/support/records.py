"""One record of every kind that the support staff's pages show, and the addresses of those pages."""

from typing import Any

from django.urls import reverse

from kmsportal.support.page import SupportPage
from kmsportal.support.records import site
from tests.conftest import Stage

SECRET, PLAIN, PROPERTY = "support-canary-secret-41c9", "support-canary-plain-77ab", "support-canary-property-0d3e"


def rows(stage: Stage) -> list[Any]:
    """One record of every registered model, of Alice's account."""
    found = [page.found(model._default_manager.all(), stage.account.code).first() for model, page in pages().items()]
    assert None not in found
    return found


def pages() -> dict[Any, SupportPage]:
    return {model: page for model, page in site._registry.items() if isinstance(page, SupportPage)}


def page_of(row: Any) -> SupportPage:
    page = site._registry[type(row)]
    assert isinstance(page, SupportPage)
    return page


def addresses(stage: Stage) -> list[str]:
    """Every page of the support staff: the front, lists empty and found, records, acts."""
    found = [reverse("support:index")]
    for row in rows(stage):
        page = page_of(row)
        found += [
            page.list_address(),
            f"{page.list_address()}?q={row.pk}",
            f"{page.list_address()}?q={stage.account.code}",
        ]
        found += [page.address(row), *(page.address(row, act.name) for act in page.acts)]
    return found
