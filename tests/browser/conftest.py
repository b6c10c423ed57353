"""Chromium for the browser tests: the system's own, quiet, and offline but for loopback."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.visit import Visit
from tests.kmsruntime.conftest import container, enrolled
from tests.live import LivePortal

__all__ = ["container", "enrolled"]
ARGUMENTS = [
    "--no-sandbox",  # tests also run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's Chromium, or the program CHROMIUM names."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.fail("Chromium is not installed: install the Debian package chromium, or set CHROMIUM.")
    return {**browser_type_launch_args, "executable_path": program, "args": ARGUMENTS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    return {**browser_context_args, "viewport": {"width": 1280, "height": 900}, "locale": "en-GB"}


@pytest.fixture
def visit(portal: LivePortal, browser: Browser) -> Callable[..., Visit]:
    return lambda *args, **context: Visit(browser, portal, *args, **context)
