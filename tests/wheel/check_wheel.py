"""Tries the installed wheel where there is no Django: `make runtime` runs it, isolated from the checkout."""

import importlib
import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path


def main() -> None:
    site = Path(sysconfig.get_path("purelib"))
    for name in ("django", "celery", "hvac", "requests", "kmsportal", "accounts"):
        assert importlib.util.find_spec(name) is None, f"{name} must not be there"
    shipped = [path for room in ("kmscore", "kmsruntime") for path in sorted((site / room).rglob("*.py"))]
    assert len(shipped) > 40
    for path in shipped:
        name = ".".join(path.relative_to(site).with_suffix("").parts)
        module = importlib.import_module(name)
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(site), f"{name} comes from {module.__file__}"
    from kmscore.sealed.envelope import Place, open_sealed, seal

    place = Place("account", "recipient", "selfcheck", ("path",), 1, "key")
    assert open_sealed(bytes(32), seal(bytes(32), b"value", place), place) == b"value"
    command = [sys.executable, "-I", "-m", "kmsruntime", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "enrol" in done.stdout, done.stdout
    print("The wheel works without Django.")


if __name__ == "__main__":
    main()
