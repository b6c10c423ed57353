from __future__ import annotations

from pathlib import Path

import pytest

from kmsruntime.disk.home import Home
from tests.kmsruntime.disk.roots import CONFIG, hand_over


@pytest.fixture
def theirs(passable: Path) -> Home:
    """A container's directory of nobody's."""
    (passable / "of_nobody").mkdir(mode=0o755)
    home = Home(passable / "of_nobody" / "kms")
    home.directory.mkdir(mode=0o700)
    home.write_config(CONFIG)
    hand_over(passable / "of_nobody")
    return home


@pytest.fixture
def victim(passable: Path) -> Path:
    """Root's own directory, with files that root's program could take for its own leftovers."""
    found = passable / "root_only"
    found.mkdir(mode=0o700)
    for name in (".passwd.1.new", f"resolv.{'0' * 8}-0000-0000-0000-{'0' * 12}", "config.json"):
        (found / name).write_bytes(b"root's own")
    return found
