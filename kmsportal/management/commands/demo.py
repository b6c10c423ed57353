"""`manage.py demo`: the embedded stack, run by `make run`."""

from __future__ import annotations

import errno
import json
import os
import sys
from argparse import REMAINDER, SUPPRESS, ArgumentParser
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

# As which process a command runs; what people decide, their roles and passwords, is web's.
PROCESS = {"backup": "backup", "sweep": "worker", "watch": "watch"}


class Command(BaseCommand):
    help = "Run every part of the portal on this machine, with demo data, until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--var", type=Path, default=Path("var"), help="the stack's directory (default: var)")
        parser.add_argument("--port", type=int, default=8000, help="the web server's port (default: 8000)")
        parser.add_argument(
            "--manage",
            nargs=REMAINDER,
            metavar="COMMAND",
            help="run another command on this stack's database and vault instead, for example: --manage backup --to DIR",
        )
        # What the stack asks of a process that has the web server's environment.
        parser.add_argument("--prepare", action="store_true", help=SUPPRESS)
        parser.add_argument("--installer-token", action="store_true", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        os.umask(0o077)
        if options["prepare"] or options["installer_token"]:
            self._inside(installer_token=options["installer_token"])
            return
        if options["manage"]:
            self._manage(options["var"], options["port"], options["manage"])
        self._run(options["var"], options["port"])

    def _manage(self, var: Path, port: int, words: list[str]) -> NoReturn:
        """Become `manage.py COMMAND` with the environment of one of the stack's processes; the stack may be running."""
        from kmsportal.demo import parts
        from kmsportal.demo.directory import ROOT, DemoError, StackDirectory
        from kmsportal.demo.servers import OpenBao, Valkey

        place = StackDirectory(var.absolute(), port)
        try:
            ports = {name: int(number) for name, number in json.loads((place.var / "ports.json").read_text()).items()}
            openbao = OpenBao(place, ports["openbao"], ports["openbao_cluster"])
            named = {"--shred": "shredder", "--watch": "watch"}
            process = next((named[word] for word in words if word in named), PROCESS.get(words[0], "web"))
            environment = parts.environment(place, openbao, Valkey(place, ports["valkey"]), process)
        except (OSError, ValueError, KeyError):
            raise CommandError(f"{place.var} is not a stack's directory.") from None
        except DemoError as error:
            raise CommandError(str(error)) from None
        os.execve(sys.executable, [sys.executable, str(ROOT / "manage.py"), *words], environment)  # noqa: S606

    def _inside(self, *, installer_token: bool) -> None:
        from kmsportal.demo.directory import StackDirectory
        from kmsportal.demo.prepare import prepare

        if settings.MODE != "demo":
            raise CommandError("This is a step of the embedded stack; run `make run`.")
        if installer_token:
            from kmsportal.demo.seed import installer_token as make_token

            self.stdout.write(make_token())
        else:
            prepare(StackDirectory(settings.VAR, settings.PORT))

    def _run(self, var: Path, port: int) -> None:
        try:
            from kmsportal.demo.directory import DemoError, no_space
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
