"""An operator's commands and the processes of a real installation have nothing of the embedded stack in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.glob("*/management/commands/[a-z]*.py")
    if path.stem != "demo"
)
PROCESSES = ["kmsportal.wsgi", "kmsportal.celery"]


@pytest.mark.parametrize("module", [*COMMANDS, *PROCESSES])
def test_nothing_real_imports_the_embedded_stack(module: str) -> None:
    code = (
        f"import django, sys; django.setup(); import {module}; print([m for m in sys.modules if 'kmsportal.demo' in m])"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
