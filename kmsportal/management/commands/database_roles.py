"""`manage.py database_roles`: what PostgreSQL is told, so that processes change no table and nothing written for good."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

FOR_GOOD = ("accounts.AuditEntry", "vaults.ShredCertificate")  # written once, and never changed or taken away
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Command(BaseCommand):
    help = (
        "Print the grants for the processes' database role: run them as the owner of the tables, after each migrate. "
        "The owner is for `migrate` alone; KMS_DATABASE_URL of the processes names the other role."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("role", metavar="ROLE", help="the role of the processes, which exists already")

    def handle(self, *args: Any, **options: Any) -> None:
        if not _NAME.fullmatch(options["role"]):
            raise CommandError("A role's name here has lower-case letters, digits and _, and begins with no digit.")
        for statement in statements(options["role"]):
            self.stdout.write(f"{statement};")


def statements(role: str) -> Iterator[str]:
    """SQL, in order; running it again changes nothing."""
    quoted = connection.ops.quote_name
    tables = {model._meta.db_table: model._meta.label for model in apps.get_models(include_auto_created=True)}
    yield "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    yield f"GRANT USAGE ON SCHEMA public TO {role}"
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
    for table, label in sorted(tables.items()):
        rights = "SELECT, INSERT" if label in FOR_GOOD else "SELECT, INSERT, UPDATE, DELETE"
        yield f"GRANT {rights} ON {quoted(table)} TO {role}"
    yield f"GRANT SELECT ON {quoted(MigrationRecorder.Migration._meta.db_table)} TO {role}"
    yield f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}"
