"""`manage.py demo`: the embedded stack, run by `make run`."""

from __future__ import annotations

import errno
import os
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Run every part of the portal on this machine, with demo data, until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--var", type=Path, default=Path("var"), help="the stack's directory (default: var)")
        parser.add_argument("--port", type=int, default=8000, help="the web server's port (default: 8000)")
        # What the stack asks of a process that has the web server's environment.
        parser.add_argument("--prepare", action="store_true", help=SUPPRESS)
        parser.add_argument("--installer-token", action="store_true", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        os.umask(0o077)
        if options["prepare"] or options["installer_token"]:
            self._inside(installer_token=options["installer_token"])
            return
        self._run(options["var"], options["port"])

    def _inside(self, *, installer_token: bool) -> None:
        from kmsportal.demo.place import Place
        from kmsportal.demo.prepare import prepare

        if settings.MODE != "demo":
            raise CommandError("This is a step of the embedded stack; run `make run`.")
        if installer_token:
            from kmsportal.demo.seed import installer_token as make_token

            self.stdout.write(make_token())
        else:
            prepare(Place(settings.VAR, settings.PORT))

    def _run(self, var: Path, port: int) -> None:
        try:
            from kmsportal.demo.place import DemoError, no_space
            from kmsportal.demo.stack import run
        except ModuleNotFoundError as error:
            raise CommandError(
                f"The package {error.name} is not installed: run `make .venv` and start again."
            ) from None
        try:
            run(var, port, self._say)
        except DemoError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise CommandError(str(no_space(var))) from None

    def _say(self, line: str) -> None:
        try:
            self.stdout.write(line)
            self.stdout.flush()
        except OSError:
            # The terminal was closed: the parts are still to be stopped in order.
            self.stdout._out = Path(os.devnull).open("w")  # type: ignore[attr-defined]  # noqa: SIM115
