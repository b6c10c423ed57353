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

from accounts.models import Membership, Role
from accounts.privileges import ADMINISTRATOR
from accounts.rows import RowTampered
from atoms import actions as atoms
from atoms.models import Atom, Environment, NodeCredential, token_hash
from kmscore.refused import Refused
from kmsruntime.disk import credentials
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


def test_a_credential_for_settings_fetches_no_values(portal: LivePortal, enrolled: Container) -> None:
    """On commit 8bea7c4 what lies on a wrapped container's disk in the clear asked for vault credentials, and got them."""
    settings = credentials.read_atom(enrolled.home).settings_token
    with lying(NodeCredential, {"kind": "'sync'"}, "kind = 'settings'"):
        asking = Client(headers={"Authorization": f"Bearer {settings}"})
        answers = {asking.get("/api/atom/v1/sync").status_code for _ in range(TRIES)}
    assert answers <= {401, 403}


def test_a_role_that_the_membership_does_not_name_is_none(stage: Stage) -> None:
    """On commit 8bea7c4 a member of any role was an Administrator."""
    bob = stage.cast.client("bob")
    page = f"/accounts/{stage.account.code}/audit/"
    readers = Role.objects.get(name="Readers")
    with lying(Role, {"id": hexadecimal(readers.pk), "account_id": "NULL"}, f"id = {hexadecimal(ADMINISTRATOR)}"):
        assert {bob.get(page).status_code for _ in range(TRIES)} == {403}


def test_an_environment_that_a_member_does_not_see_stays_hidden(stage: Stage) -> None:
    """On commit 8bea7c4 it was shown, and attached to."""
    atoms.set_environment_roles(stage.production, [Role.objects.get(pk=ADMINISTRATOR)], actor=stage.alice)
    bob = stage.cast.client("bob")
    page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/"
    with lying(Environment, {"roles": "'[]'"}, f"id = {hexadecimal(stage.production.pk)}"):
        assert {bob.get(page).status_code for _ in range(TRIES)} <= {403, 404}


def test_a_node_is_of_no_other_atom(stage: Stage, portal: LivePortal, enrolled: Container) -> None:
    """On commit 8bea7c4 a machine of an Atom that was attached elsewhere was answered as one of this Atom."""
    atoms.attach(stage.second, stage.test, actor=stage.alice)
    sync = credentials.read_environment(enrolled.home).sync_token
    one, other = hexadecimal(stage.atom.pk), hexadecimal(stage.second.pk)
    with lying(Atom, {"id": f"CASE id WHEN {one} THEN {other} ELSE {one} END"}, f"id IN ({one}, {other})"):
        asking = Client(headers={"Authorization": f"Bearer {sync}"})
        found = [asking.get("/api/atom/v1/sync") for _ in range(TRIES)]
    places = {one.json()["environment"]["name"] for one in found if one.status_code == 200}
    assert places <= {"Production"}


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
