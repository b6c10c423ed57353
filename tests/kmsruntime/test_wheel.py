"""The wheel: what is in it, and that it works as the console script where there is no Django. Needs the package registry."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.live import ROOT

pytestmark = pytest.mark.slow
ROOMS = ("kmscore", "kmsruntime")
IMPORT_ALL = """
import importlib, importlib.util, pkgutil, kmscore, kmsruntime
for name in ("django", "yaml", "hvac", "requests"):
    assert importlib.util.find_spec(name) is None, name
for room in (kmscore, kmsruntime):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(kmsruntime.__file__)
"""


def run(*words: str, cwd: Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, check=False, timeout=240)
    assert done.returncode == expected, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target), cwd=ROOT)
    (found,) = target.glob("*.whl")
    return found


def test_it_holds_the_rooms_of_the_container_only(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    rooms = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert shipped == {name for name in rooms if not name.startswith("kmscore/byov/properties/")}


def test_it_works_where_there_is_no_django(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    binaries = tmp_path / "venv" / "bin"
    run(str(binaries / "pip"), "--disable-pip-version-check", "install", "-q", str(wheel), cwd=tmp_path)
    assert "exec" in run(str(binaries / "kms-runtime"), "--help", cwd=tmp_path).stdout
    assert str(tmp_path) in run(str(binaries / "python"), "-I", "-c", IMPORT_ALL, cwd=tmp_path).stdout
    status = run(str(binaries / "kms-runtime"), "status", "--dir", str(tmp_path / "none"), cwd=tmp_path, expected=67)
    assert "[not_enrolled]" in status.stderr
