"""What is wrong with how a page is shown: what axe finds, and what is wider than the screen."""

from collections.abc import Iterable

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (1440, 390)  # a desk and a phone, in pixels


def faults_shown(page: Page, state: str, widths: Iterable[int] = WIDTHS) -> list[tuple[str, ...]]:
    """Of the page as it stands, at each width: [(state, width, rule, element), …]. Leaves it at the last width."""
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        for violation in Axe().run(page).response["violations"]:
            found.append((state, str(width), violation["id"], violation["nodes"][0]["html"]))
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append((state, str(width), "wider than the screen", ""))
    return found


def faults_at(page: Page, addresses: Iterable[str], widths: Iterable[int] = WIDTHS) -> list[tuple[str, ...]]:
    """Of every address, loaded anew at each width; each has to answer with 200."""
    found = []
    addresses = list(addresses)
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        for address in addresses:
            answer = page.goto(address)
            assert answer is not None
            assert answer.status == 200, address
            found += faults_shown(page, address, [width])
    return found
