"""The processes' database role: it works with the rows, and can change neither the tables nor what was written for good."""

from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.utils import ProgrammingError

from accounts import audit
from accounts.models import AuditEntry
from extensions.models import ExtensionValue
from kmsportal.management.commands.database_roles import FOR_GOOD, statements
from tests.conftest import Stage
from tests.kmsruntime.container import save

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres, pytest.mark.owner]
ROLE = "kms_process_of_tests"


@pytest.fixture
def restricted(stage: Stage) -> Iterator[Stage]:
    """This process has the role; the owner is another."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no roles; it is for the embedded stack")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE IF EXISTS {ROLE}")
        cursor.execute(f"CREATE ROLE {ROLE}")
        for statement in statements(ROLE):
            cursor.execute(statement)
        cursor.execute(f"SET ROLE {ROLE}")
    try:
        yield stage
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            cursor.execute(f"DROP OWNED BY {ROLE}")
            cursor.execute(f"DROP ROLE {ROLE}")


def test_it_saves_and_tells_the_audit_log(restricted: Stage) -> None:
    save(restricted, password="canary")
    assert ExtensionValue.objects.filter(form="sealed").exists()
    assert audit.first_broken(restricted.account) is None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM accounts_auditentry",
        "UPDATE accounts_auditentry SET message = 'another'",
        "TRUNCATE accounts_auditentry",
        "DELETE FROM vaults_shredcertificate",
        "UPDATE vaults_shredcertificate SET document = '{}'",
        "DROP TABLE accounts_auditentry",
        "ALTER TABLE accounts_auditentry DISABLE TRIGGER ALL",
        "CREATE TABLE another (id int)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DELETE FROM django_migrations",
        "COPY accounts_user TO PROGRAM 'true'",
    ],
)
def test_it_is_refused(restricted: Stage, statement: str) -> None:
    before = AuditEntry.objects.count()
    with (
        pytest.raises(ProgrammingError, match="permission denied|must be owner|must be superuser"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert AuditEntry.objects.count() == before


def test_the_names_are_those_of_models() -> None:
    from django.apps import apps

    assert {apps.get_model(label)._meta.label for label in FOR_GOOD} == set(FOR_GOOD)


@pytest.mark.parametrize("name", ['x"; DROP TABLE accounts_user', "1st", "", "Kms"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="A role's name"):
        call_command("database_roles", name)
