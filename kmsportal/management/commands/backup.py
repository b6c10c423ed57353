"""`manage.py backup`: the database and a snapshot of the hosted vault, in a new directory."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts import audit
from accounts.models import Account
from kmsportal.backups import database, record, vault
from vaults.hosted.layout import LAYOUT_VERSION

APART = """\
Not in it, and needed to use it: KMS_ROW_KEY, KMS_SECRET_KEY, the portal's root key, the vault's seal key and its recovery key.
Keep them apart from it: together with them it opens every value."""


class Command(BaseCommand):
    help = (
        "Write the database and a snapshot of the hosted vault into a new directory below DIR. Nothing is overwritten."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", required=True, type=Path, metavar="DIR")
        parser.add_argument("--only", choices=("database", "vault"), help="one of the two")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = (options["only"],) if options["only"] else ("database", "vault")
        try:
            directory = self._back_up(options["to"], wanted)
        except (database.DatabaseRefused, vault.SnapshotRefused) as refused:
            raise CommandError(f"{refused} What was written is no whole backup.") from None
        except FileExistsError:
            raise CommandError("There is a backup of this very second; start again.") from None
        except OSError as error:
            raise CommandError(f"{error.filename or options['to']}: {error.strerror}.") from None
        self.stdout.write(f"The backup is in {directory}.")
        self.stdout.write(APART)

    def _back_up(self, parent: Path, wanted: tuple[str, ...]) -> Path:
        """The database first: a key without its value is harmless, a value without its key is lost."""
        now = datetime.now(UTC)
        directory, names, kind = record.new_directory(parent, now), [], ""
        heads = {}
        if "database" in wanted:
            # Before it: the copy holds at least these entries.
            heads = {account.code: audit.head(account) for account in Account.objects.order_by("code")}
            name = database.back_up(settings.DATABASES["default"], directory)
            kind = "sqlite" if name == record.SQLITE else "postgresql"
            names.append(name)
        if "vault" in wanted:
            credentials = Path(settings.CREDENTIALS or "/nonexistent")
            names.append(vault.take(settings.VAULT_ADDR, settings.VAULT_CA, credentials, directory))
        files = {name: record.measured(directory / name) for name in names}
        record.write(directory, record.BackupRecord(now, LAYOUT_VERSION, kind, files, heads))
        return directory
