"""What is taken for a secret of ours, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kmscore.private_file import MOST_BYTES, NotPrivate, read_private


def made(path: Path, size: int) -> Path:
    path.touch(mode=0o600)
    os.truncate(path, size)
    return path


def test_a_file_without_bounds_is_not_read(tmp_path: Path) -> None:
    """An attack that succeeded: whoever owns the directory filled the memory of root's program."""
    with pytest.raises(NotPrivate, match="is larger than 128 MiB"):
        read_private(made(tmp_path / "secret", MOST_BYTES + 1))


def test_whatever_is_kept_of_an_answer_is_read(tmp_path: Path) -> None:
    assert len(read_private(made(tmp_path / "secret", MOST_BYTES))) == MOST_BYTES
