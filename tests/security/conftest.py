"""A live portal, and what an attacker holds beside it."""

from collections.abc import Callable

import pytest

from tests.conftest import PASSWORD
from tests.kmsruntime.conftest import another, container, enrolled
from tests.live import LivePortal
from tests.security.visitor import Visitor

__all__ = ["another", "container", "enrolled"]


@pytest.fixture
def visitor(portal: LivePortal) -> Callable[..., Visitor]:
    """Somebody with a browser of their own, signed in as one of the cast when a name is given."""

    def come(name: str = "") -> Visitor:
        found = Visitor(portal.url)
        if name:
            found.sign_in(getattr(portal.stage.cast, name).email, PASSWORD)
        return found

    return come
