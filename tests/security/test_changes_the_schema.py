"""An attacker who may change the schema, as whoever writes SQLite's file may: a view in a table's place answers a question with
another row, whose own columns and signature are genuine.

On commit cbfcbee each won within a few tries: a made-up bearer passed for a container's and got its vault login; a member of
another account was answered as an Administrator; the next secret was sealed under the key of the attacker's own environment.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from uuid import UUID

import pytest
from django.db import connection, models
from django.test import Client

from accounts.models import Membership
from accounts.rows import RowTampered
from atoms import actions as atoms
from atoms.models import NodeCredential, token_hash
from kmscore.refused import Refused
from operations.work import sweep
from tests.conftest import Stage
from tests.kmsruntime.container import Container
from tests.live import LivePortal
from vaults.hosted import sealing
from vaults.keys.provision import activate_kms
from vaults.models import Recipient

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="on PostgreSQL the processes' role changes no schema"),
]
TRIES = 40


@contextmanager
def lying(table: type[models.Model], said: Mapping[str, str], where: str) -> Iterator[None]:
    """Each time that a column is looked at, it is `said` in one of two cases, where the condition holds. All are SQL."""
    name = table._meta.db_table
    shown = [
        f'CASE WHEN {where} AND abs(random()) % 2 THEN {said[one.column]} ELSE "{one.column}" END AS "{one.column}"'
        if one.column in said
        else f'"{one.column}"'
        for one in table._meta.concrete_fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{name}" RENAME TO hidden')
        cursor.execute(f'CREATE VIEW "{name}" AS SELECT {", ".join(shown)} FROM hidden')
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP VIEW "{name}"')
            cursor.execute(f'ALTER TABLE hidden RENAME TO "{name}"')


def hexadecimal(pk: UUID) -> str:
    return f"'{pk.hex}'"


def test_a_made_up_bearer_is_no_containers(portal: LivePortal, enrolled: Container) -> None:
    made_up = "no credential of anybody"
    said = f"x'{token_hash(made_up).hex()}'"
    with lying(NodeCredential, {"token_hash": said}, "kind = 'sync'"):
        answers = {
            Client(headers={"Authorization": f"Bearer {made_up}"}).get("/api/atom/v1/sync").status_code
            for _ in range(TRIES)
        }
    assert answers <= {401, 403}


def test_a_member_of_another_account_is_nobody_here(stage: Stage) -> None:
    charlie = stage.cast.client("charlie")
    page = f"/accounts/{stage.account.code}/audit/"
    said, where = hexadecimal(stage.cast.charlie.pk), f"user_id = {hexadecimal(stage.alice.pk)}"
    with lying(Membership, {"user_id": said}, where):
        answers = {charlie.get(page).status_code for _ in range(TRIES)}
    assert 200 not in answers
    assert answers <= {403, 404}


def test_a_secret_is_sealed_for_no_other_environment(stage: Stage) -> None:
    activate_kms(stage.cast.other, actor="tests")
    own = atoms.create_environment(stage.cast.other, name="Mine", classification="PROD", actor=stage.cast.charlie)
    sweep()
    Recipient.objects.filter(pk=stage.production.pk).delete()
    said, where = hexadecimal(stage.production.pk), f"id = {hexadecimal(own.pk)}"
    sealed_for = set()
    with lying(Recipient, {"id": said, "account_id": hexadecimal(stage.account.pk)}, where):
        for _ in range(10 * TRIES):
            with suppress(RowTampered, Refused):
                sealed_for.add(sealing.new_save_key(stage.production).recipient)
    assert sealed_for <= {stage.production.pk}
