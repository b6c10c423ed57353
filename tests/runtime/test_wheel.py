"""The wheel: what is in it, and that it works as the console script where there is no Django. Needs the package registry."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.live import ROOT

pytestmark = pytest.mark.slow
PURE = {
    *(
        "__init__.py",
        "answers.py",
        "customer.py",
        "deadline.py",
        "envelope.py",
        "kms_settings.py",
        "lifecycle.py",
        "manifest.py",
    ),
    *("answers.py", "preflight.py", "proof.py", "secret.py", "tls.py", "transit.py", "verdicts.py"),
}
IMPORT_ALL = """
import importlib, importlib.util, pkgutil, runtime
assert importlib.util.find_spec("django") is None
for module in pkgutil.iter_modules(runtime.__path__):
    if module.name != "__main__":
        importlib.import_module(f"runtime.{module.name}")
print(runtime.__file__)
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


def test_it_holds_the_runtime_and_the_pure_modules_only(wheel: Path) -> None:
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    assert {name.parts[0] for name in names} == {"runtime", "vaults"}
    assert {name.name for name in names if name.parts[0] == "vaults"} == PURE
    assert {name.name for name in names if name.parts[0] == "runtime"} == {
        path.name for path in (ROOT / "runtime").glob("*.py")
    }


def test_it_works_where_there_is_no_django(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    binaries = tmp_path / "venv" / "bin"
    run(str(binaries / "pip"), "--disable-pip-version-check", "install", "-q", str(wheel), cwd=tmp_path)
    assert "exec" in run(str(binaries / "kms-runtime"), "--help", cwd=tmp_path).stdout
    assert str(tmp_path) in run(str(binaries / "python"), "-I", "-c", IMPORT_ALL, cwd=tmp_path).stdout
    status = run(str(binaries / "kms-runtime"), "status", "--dir", str(tmp_path / "none"), cwd=tmp_path, expected=67)
    assert "[not_enrolled]" in status.stderr
