from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kmsruntime.disk.home import Home
from tests.kmsruntime.disk.roots import CONFIG, hand_over


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory where everybody may go; not below pytest's own, which every pytest that starts closes to others."""
    mask = os.umask(0o022)
    with TemporaryDirectory() as name:
        found = Path(name).resolve()
        found.chmod(0o755)
        yield found
    os.umask(mask)


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
