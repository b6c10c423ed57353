"""A machine whose store no plaintext key opens."""

from __future__ import annotations

import pytest

from tests.kmsruntime.byov_machine import Byov


@pytest.fixture
def wrapped(held: Byov) -> Byov:
    """The same with a wrapped encryption key."""
    held.turn_on(wrapped=True)
    held.container.sync()
    return held
