"""Somebody signed in, in a browser of their own, and what stands in the portal when they come."""

from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, Page

from atoms.models import Node
from extensions import actions as extensions
from extensions.plan import FieldChange, PropertyChange
from extensions.secret import Secret
from tests.browser import steps
from tests.conftest import PASSWORD, Stage
from tests.live import LivePortal
from vaults.models import ContainerReport


class Visit:
    """A signed-in browser page, and what its console complained about."""

    def __init__(self, browser: Browser, portal: LivePortal, name: str = "alice", **context: Any) -> None:
        self.portal, self.stage = portal, portal.stage
        self.page: Page = browser.new_context(viewport={"width": 1440, "height": 900}, **context).new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        steps.sign_in(self.page, portal.url, getattr(self.stage.cast, name).email, PASSWORD)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def address(self, name: str, *ids: object) -> str:
        return self.portal.url + reverse(name, args=[self.stage.account.code, *ids])

    def go(self, name: str, *ids: object, query: str = "") -> Page:
        self.page.goto(self.address(name, *ids) + query)
        return self.page

    def extensions(self, query: str = "?connection=") -> Page:
        return self.go("extensions:environment_extensions", self.stage.production.pk, query=query)


def save_as(stage: Stage, key: str = "password") -> None:
    """Alice saves one secret elsewhere."""
    stage.production.refresh_from_db()
    extensions.save_extensions(
        stage.production,
        [FieldChange(stage.field(key), "secret", Secret("something else"))],
        [PropertyChange("region", "eu-west")],
        expected_revision=stage.production.extensions_revision,
        actor=stage.alice,
    )


def enrolled(stage: Stage, host_name: str = "orders-01.example") -> Node:
    """A node of the first Atom that asked a moment ago and holds what was saved."""
    stage.production.refresh_from_db()
    now = timezone.now()
    node = Node.objects.create(
        atom=stage.atom, host_name=host_name, version="0.1.0", state="enrolled", enrolled_at=now, last_seen_at=now
    )
    ContainerReport.objects.create(
        node=node,
        reported_at=now,
        key_name=f"atrest/{stage.atom.pk}",
        key_version=1,
        sealed_at=now,
        environment=stage.production,
        revision=stage.production.extensions_revision,
        values=4,
    )
    return node


def tab_to(page: Page, matching: str) -> None:
    """Press Tab until an element that fits the selector has the focus, and the focus can be seen."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement.matches(wanted)", matching):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"the focus on {matching} cannot be seen"
            return
    pytest.fail(f"Tab never reached {matching}")
