"""The demo's container: enrols its runtime by the same steps as on any other machine, once per pair of addresses.

The installer token is kept until the enrolment is known to be done, because the same token in the same directory goes
on where a broken-off enrolment stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from kmscore.durable import write_durably
from kmsportal.demo import parts
from kmsportal.demo.directory import DemoError, StackDirectory, write_json


def is_enrolled(place: StackDirectory, vault: str) -> bool:
    """Whether the demo runtime is enrolled with this portal and vault address."""
    try:
        noted: dict[str, str] = json.loads(_marker(place).read_text())
    except (OSError, ValueError):
        return False
    return noted == _addresses(place, vault)


def enrol(place: StackDirectory, vault: str, web: Mapping[str, str]) -> None:
    """Enrol, or go on with an enrolment that was broken off. web: the web server's environment. Raises DemoError."""
    token_file = place.directory("secrets") / "installer_token"
    if _marker(place).exists():  # it was enrolled with other addresses, which it never changes
        _forget(place, token_file)
    kept = token_file.exists()
    if not kept:
        write_durably(token_file, _new_token(place, web).encode())
    try:
        _enrol(place, vault, token_file.read_text())
    except DemoError:
        if not kept:
            raise
        # Too old by now, perhaps.
        _forget(place, token_file)
        write_durably(token_file, _new_token(place, web).encode())
        _enrol(place, vault, token_file.read_text())
    write_json(_marker(place), _addresses(place, vault))
    token_file.unlink()


def _forget(place: StackDirectory, token_file: Path) -> None:
    shutil.rmtree(place.directory("runtime"))
    token_file.unlink(missing_ok=True)


def _new_token(place: StackDirectory, web: Mapping[str, str]) -> str:
    command = ["manage.py", "demo", "--installer-token"]
    failure = "The demo runtime got no installer token."
    return parts.run_once(place, "prepare", command, web, failure=failure).strip()


def _enrol(place: StackDirectory, vault: str, token: str) -> None:
    parts.run_once(
        place,
        "runtime",
        [
            *("-m", "kmsruntime", "enrol", "--portal", _addresses(place, vault)["portal"], "--vault", vault),
            *("--dir", str(place.directory("runtime"))),
        ],
        parts.runtime_environment(),
        failure="The demo runtime cannot enrol.",
        standard_input=token + "\n",
    )


def _marker(place: StackDirectory) -> Path:
    return place.var / "runtime.json"


def _addresses(place: StackDirectory, vault: str) -> dict[str, str]:
    return {"portal": f"http://127.0.0.1:{place.port}", "vault": vault}
