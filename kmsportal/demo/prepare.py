"""Tables, static files and demo data: what a stack does in a process of its own, with the web server's environment.

The story the demo data tells is in `kmsportal.demo.seed`, which must offer:

* ``seed(password: Callable[[str], str]) -> dict``: makes what is missing and returns ``account`` (its code), ``users``
  [{email, password, role}], ``environments`` and ``atoms`` [{id, name}]. ``password(email)`` gives the same random
  password at every call. Called until it has succeeded once, so after a crash it finds some or all of its rows.
* ``installer_token() -> str``: a fresh installer token for the demo runtime's Atom.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from django.conf import settings
from django.core.management import call_command

from kmsportal.demo.directory import DEMO_FORMAT, StackDirectory, write_json


def prepare(place: StackDirectory) -> None:
    """Bring database and static files up to date; demo data and demo.json at the first start only."""
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0, clear=_outdated(place))
    if not place.demo_file.exists():
        from kmsportal.demo.seed import seed

        data = seed(_Passwords(place.directory("secrets") / "demo_passwords.json"))
        write_json(place.demo_file, {"format": DEMO_FORMAT, "url": place.url, **data})
        return
    demo = json.loads(place.demo_file.read_text())
    if demo["url"] != place.url:
        write_json(place.demo_file, demo | {"url": place.url})


def _outdated(place: StackDirectory) -> bool:
    # A manifest of an unfinished collection would make every page fail.
    return not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists() and Path(settings.STATIC_ROOT).exists()


class _Passwords:
    """Random passwords by address, on disk before they are used: a start that breaks off must not lose them."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, email: str) -> str:
        known: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        if email not in known:
            known[email] = secrets.token_urlsafe(12)
            write_json(self._file, known)
        return known[email]
