"""`manage.py restore`: put the database or the embedded vault of a backup back; `after_restore` follows."""

from __future__ import annotations

import json
import shlex
import sys
import urllib.error
import urllib.request
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from accounts import memory
from kmsportal.backups import database, record, restored

NEXT = "Next, before containers and people come back: manage.py after_restore --credentials DIR --from {source}"
NEXT_OF_A_STACK = """\
Next, start the stack again, and at once when it runs, in another terminal:
  KMS_MODE=demo {manage} demo --var {var} --manage after_restore --credentials {var}/credentials --from {source}"""
EXTERNAL = """\
The vault is not run by this program. With a token that may do it, on the vault's cluster:
  bao operator raft snapshot restore -force {file}
or the same with vault instead of bao. Then renew the credentials: manage.py install_vault --rotate-credentials"""


class Command(BaseCommand):
    help = "Put back what `backup` wrote. The portal is stopped. What was there is kept aside, where it is a file."
    requires_system_checks: list[str] = []  # there may be no database

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", required=True, type=Path, metavar="DIR", dest="source")
        parser.add_argument("--only", choices=("database", "vault"), help="one of the two")
        parser.add_argument(
            "--var", type=Path, metavar="VAR", help="an embedded stack, stopped: its database and its vault"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        source: Path = options["source"]
        try:
            backup = record.read(source)
            parts = self._parts(backup, options["only"])
            self._refuse_running(options["var"])
            if not options["yes"]:
                self._ask(parts, backup)
            self._put_back(source, backup, parts, options["var"])
        except (record.BackupBroken, database.DatabaseRefused) as refused:
            raise CommandError(str(refused)) from None
        except OSError as error:
            raise CommandError(f"{error.filename or source}: {error.strerror}.") from None
        var = options["var"]
        words = {
            "manage": shlex.join([sys.executable, str(settings.BASE_DIR / "manage.py")]),
            "source": _quoted(source),
        }
        self.stdout.write(NEXT_OF_A_STACK.format(var=_quoted(var), **words) if var else NEXT.format(**words))

    def _parts(self, backup: record.BackupRecord, only: str | None) -> list[str]:
        held = [
            part for part, there in (("database", backup.database), ("vault", record.SNAPSHOT in backup.files)) if there
        ]
        parts = [part for part in held if only in (None, part)]
        if not parts:
            raise CommandError(f"The backup has no {only or 'part that can be put back'}.")
        return parts

    def _refuse_running(self, var: Path | None) -> None:
        """An embedded stack holds its lock, too; the processes of another installation are known by their answer only."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for address in _addresses(var):
            try:
                with opener.open(f"{address}/live", timeout=3) as answer:
                    if answer.status == 200:
                        raise CommandError(f"The portal answers at {address}: stop it first.")
            except (OSError, urllib.error.URLError, ValueError):
                continue

    def _ask(self, parts: list[str], backup: record.BackupRecord) -> None:
        self.stdout.write(f"The {' and the '.join(parts)} will be as of {backup.taken_at:%Y-%m-%d %H:%M:%S} UTC.")
        try:
            answer = input("Type restore to go on: ")
        except EOFError:
            raise CommandError("Nothing was changed: nobody can be asked here; --yes does not ask.") from None
        if answer.strip() != "restore":
            raise CommandError("Nothing was changed.")

    def _put_back(self, source: Path, backup: record.BackupRecord, parts: list[str], var: Path | None) -> None:
        aside = f"before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if var is None:
            connections.close_all()
            restored.note(settings.VAR, parts, backup.taken_at)
            if "database" in parts:
                name = record.SQLITE if backup.database == "sqlite" else record.POSTGRES
                memory.forget()  # the rows of an earlier day are what is wanted
                self._tell_database(database.put_back(settings.DATABASES["default"], source, name, aside))
            if "vault" in parts:
                self.stdout.write(EXTERNAL.format(file=source / record.SNAPSHOT))
            return
        from kmsportal.demo import restore as embedded  # of no concern to a real installation

        with embedded.stopped(var, settings.PORT) as place:
            restored.note(place.var, parts, backup.taken_at)
            if "database" in parts:
                if backup.database != "sqlite":
                    raise CommandError("The backup's database is of PostgreSQL; an embedded stack has SQLite.")
                memory.Memory(place.directory("state")).forget()
                self._tell_database(database.put_back_sqlite(source / record.SQLITE, place.database, aside))
            if "vault" in parts:
                embedded.put_back_vault(place, source / record.SNAPSHOT, aside)
                self.stdout.write("The vault is put back, and the credentials in VAR/credentials are made anew.")

    def _tell_database(self, kept: Path | None) -> None:
        self.stdout.write("The database is put back." + (f" The one before is kept as {kept}." if kept else ""))


def _quoted(path: Path) -> str:
    """For a shell, wherever that stands."""
    return shlex.quote(str(path.absolute()))


def _addresses(var: Path | None) -> set[str]:
    if var is None:
        return {settings.PORTAL_URL, f"http://127.0.0.1:{settings.PORT}"}
    try:
        return {str(json.loads((var / "demo.json").read_text())["url"])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
