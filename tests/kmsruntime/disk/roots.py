"""Root at the command line, in directories that are somebody else's."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
import pytest

from kmsruntime.disk.home import Config
from tests.live import ROOT

NOBODY = 65534
CONFIG = Config("https://portal.example", "https://vault.example")
ALLOW = ("allow-vault", "https://a.example")  # writes into the directory and talks to nobody


def _open_to_all(place: str | Path) -> bool:
    found = Path(place).resolve()
    return all(part.stat().st_mode & 0o005 == 0o005 for part in (found, *found.parents))


def _python() -> str | None:
    """An interpreter that nobody, too, can read and run."""
    if _open_to_all(sys.executable) and _open_to_all(os.__file__):
        return sys.executable
    return shutil.which("python3.11", path="/usr/local/bin:/usr/bin")


def _readable(place: Path, *patterns: str) -> Path:
    """The directory itself, or a copy of what is named, where others may not go: a checkout of root's own, say."""
    place = place.resolve()
    if _open_to_all(place):
        return place
    copy = Path(tempfile.mkdtemp(prefix="readable-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for found in (found for pattern in patterns for found in place.glob(pattern)):
        if found.is_dir():
            shutil.copytree(found, copy / found.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(found, copy)
    for one in (copy, *copy.rglob("*")):
        one.chmod(0o755 if one.is_dir() else 0o644)
    return copy


PYTHON = _python()
PROGRAM = _readable(ROOT, "kmscore", "kmsruntime", "pyproject.toml")
PACKAGES = _readable(
    Path(orjson.__file__).parents[1], "orjson", "urllib3", "cryptography", "cffi", "_cffi_backend*", "certifi"
)
only_root = pytest.mark.skipif(
    os.geteuid() != 0 or PYTHON is None, reason="only root has more rights than others, who must have an interpreter"
)


def hand_over(directory: Path, user: int = NOBODY, group: int = NOBODY) -> None:
    for one in (directory, *directory.rglob("*")):
        os.chown(one, user, group, follow_symlinks=False)


def as_root(
    *words: str,
    home: Path | None = None,
    text: str = "",
    cwd: Path = PROGRAM,
    before: tuple[str, ...] = (),
    python: tuple[str, ...] = (),
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """kms-runtime in the directory `home`, or in the default one. before: what starts it. python: options. more: variables."""
    words = (words[0], "--dir", str(home), *words[1:]) if home else words
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": f"{PROGRAM}:{PACKAGES}", **more}
    return subprocess.run(
        [*before, str(PYTHON), "-B", *python, "-m", "kmsruntime", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env=environment,
    )


def untouched(victim: Path) -> bool:
    """Whether root's own directory is as the fixture made it."""
    found = [victim, *victim.iterdir()]
    return len(found) == 4 and all(
        one.lstat().st_uid == 0 and (one.is_dir() or one.read_bytes() == b"root's own") for one in found
    )
