"""What was taken away stays away, though its row was hidden just then: taken out before, and put in afterwards.

On commit 3f88fe1, and those of nodes, Atoms, connections and support staff on 8bea7c4, such a row won.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, models
from django.test import Client

from accounts import actions as accounts
from accounts import credentials, memory
from accounts.access import genuine_roles
from accounts.models import AuditEntry, Role, Session, SupportStaff, User
from accounts.privileges import ADMINISTRATOR
from accounts.sessions import _hashed
from atoms import actions as atoms
from atoms.models import Atom, Node, NodeCredential
from atoms.revocation import revoke_all_nodes
from extensions.connections import FieldSpec, StaleConnection, delete_connection, save_connection
from tests.accounts.earlier_rows import kept, no_grace, put_back  # noqa: F401 (a fixture)
from tests.conftest import PASSWORD, Cast, client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def hidden(row: models.Model) -> dict[str, Any]:
    """The row as it was; its table has it no more, and the portal was told of nothing."""
    before = kept(row)
    with connection.cursor() as cursor, connection.constraint_checks_disabled():
        cursor.execute(f"DELETE FROM {row._meta.db_table} WHERE id = %s", [_as_stored(row.pk)])
    return before


@contextmanager
def hiding(row: models.Model) -> Iterator[None]:
    """Under another id until the end of it, as if it were not there when it is deleted."""
    table, other = row._meta.db_table, _as_stored(uuid.uuid4())
    with connection.cursor() as cursor, connection.constraint_checks_disabled():
        cursor.execute(f"UPDATE {table} SET id = %s WHERE id = %s", [other, _as_stored(row.pk)])
    yield
    with connection.cursor() as cursor, connection.constraint_checks_disabled():
        cursor.execute(f"DELETE FROM {table} WHERE id = %s", [other])


def _as_stored(pk: uuid.UUID) -> object:
    return pk.hex if connection.vendor == "sqlite" else pk


def test_a_membership_that_was_hidden_has_no_role_that_was_taken_away(cast: Cast) -> None:
    member = accounts.add_member(cast.account, cast.charlie, [Role.objects.get(pk=ADMINISTRATOR)], actor="operator")
    before = hidden(member)
    accounts.add_member(cast.account, cast.charlie, [Role.objects.get(name="Readers")], actor="operator")
    again = put_back(member, before)
    assert genuine_roles(again) == []


@pytest.mark.parametrize("ended", ["another was made", "all nodes were revoked"])
def test_an_installer_token_that_was_hidden_is_none(cast: Cast, ended: str) -> None:
    atom = atoms.create_atom(cast.account, name="One", type="MOLECULE", environment=None, actor=cast.alice)
    token = atoms.create_installer_token(atom, minutes=30, actor=cast.alice)[0]
    before = hidden(token)
    if ended == "another was made":
        atoms.create_installer_token(atom, minutes=30, actor=cast.alice)
    else:
        revoke_all_nodes(atom, actor=cast.alice)
    assert not put_back(token, before).is_valid()


def test_a_credential_that_was_hidden_while_its_node_was_revoked_is_none(cast: Cast) -> None:
    atom = atoms.create_atom(cast.account, name="One", type="ATOM", environment=None, actor=cast.alice)
    node = Node.objects.create(atom=atom, state=Node.State.ENROLLED)
    credential = NodeCredential(pk=NodeCredential.id_of(node.pk, "sync"), node=node, kind="sync", token_hash=b"x" * 32)
    credential.atom, credential.account = atom, cast.account
    credential.save(force_insert=True)
    before = hidden(credential)
    atoms.revoke_node(node, actor=cast.alice)
    assert not put_back(credential, before).is_valid()


def credential_of(atom: Atom) -> NodeCredential:
    node = Node.objects.create(atom=atom, state=Node.State.ENROLLED)
    made = NodeCredential(
        pk=NodeCredential.id_of(node.pk, "sync"), node=node, kind="sync", token_hash=node.pk.bytes * 2
    )
    made.atom, made.account = atom, atom.account
    made.save(force_insert=True)
    return made


def test_a_node_that_was_hidden_while_all_were_revoked_is_none(cast: Cast) -> None:
    """Its state said so, in a column that anybody may write who writes there."""
    atom = atoms.create_atom(cast.account, name="Many", type="MOLECULE", environment=None, actor=cast.alice)
    one, other = credential_of(atom), credential_of(atom)
    Node.objects.filter(pk=one.node_id).update(state=Node.State.REVOKED)
    revoke_all_nodes(atom, actor=cast.alice)
    Node.objects.filter(pk=one.node_id).update(state=Node.State.ENROLLED)
    assert not NodeCredential.objects.get(pk=one.pk).is_valid()
    assert not NodeCredential.objects.filter(pk=other.pk).exists()
    assert credential_of(Atom.objects.get(pk=atom.pk)).is_valid(), "a machine that enrols afterwards"


def test_an_atom_that_was_hidden_while_it_was_deleted_is_none(cast: Cast) -> None:
    atom = atoms.create_atom(cast.account, name="One", type="ATOM", environment=None, actor=cast.alice)
    before = hidden(atom)
    atoms.delete_atom(atom, actor=cast.alice)
    atoms.delete_atom(atom, actor=cast.alice)  # somebody else was quicker
    assert not put_back(atom, before).has_valid_signature()
    assert AuditEntry.objects.filter(subject_id=str(atom.pk), action="DELETE").count() == 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL lets nobody hide what others refer to")
def test_a_connection_that_was_hidden_while_it_was_deleted_is_none(cast: Cast) -> None:
    spec = FieldSpec(None, "host", "Host", False, True, "old.example.com")
    orders = save_connection(cast.account, None, name="Orders", fields=[spec], actor=cast.alice)
    before = kept(orders)
    with hiding(orders):
        delete_connection(orders, actor=cast.alice)
    assert not put_back(orders, before).has_valid_signature()


def test_a_field_that_is_not_found_is_not_said_to_be_deleted(cast: Cast) -> None:
    spec = FieldSpec(None, "host", "Host", False, True, "old.example.com")
    connection = save_connection(cast.account, None, name="Orders", fields=[spec], actor=cast.alice)
    field = connection.fields.get()
    hidden(field)
    with pytest.raises(StaleConnection):
        save_connection(cast.account, connection, name="Orders", fields=[], deleted=[field.pk], actor=cast.alice)


def test_support_staff_that_was_hidden_while_it_was_removed_is_none(cast: Cast) -> None:
    """The next new password signed it anew."""
    row = accounts.add_support_staff(cast.charlie)
    before = hidden(row)
    accounts.remove_support_staff(cast.charlie)
    put_back(row, before)
    credentials.start_anew(cast.charlie, cast.charlie.email, PASSWORD)
    assert not SupportStaff.includes(User.objects.get(pk=cast.charlie.pk))
    accounts.add_support_staff(User.objects.get(pk=cast.charlie.pk))
    assert SupportStaff.includes(User.objects.get(pk=cast.charlie.pk))


def test_a_token_does_not_go_over_to_another_machine(cast: Cast) -> None:
    """A machine that began with one that was withdrawn went on with any other that it was written into."""
    atom = atoms.create_atom(cast.account, name="One", type="ATOM", environment=None, actor=cast.alice)
    token = atoms.create_installer_token(atom, minutes=30, actor=cast.alice)[0]
    node = Node.objects.create(atom=atom)
    assert not put_back(token, {"node_id": node.pk}).is_valid()


def test_a_session_that_was_hidden_while_its_person_signed_out_is_none(cast: Cast) -> None:
    browser = client_of(cast.alice)
    session = Session.objects.get()
    before, cookie = kept(session), browser.cookies[settings.SESSION_COOKIE_NAME].value
    Session.objects.all().delete()
    browser.post("/auth/logout/")
    put_back(session, before)
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = cookie
    assert thief.get("/").headers["Location"].startswith("/auth/login/")


def test_nobody_fills_the_memory_with_ends_of_sessions_that_never_were(cast: Cast) -> None:
    guest = Client()
    guest.cookies[settings.SESSION_COOKIE_NAME] = "0123456789abcdef" * 4
    guest.post("/auth/logout/")
    assert not memory.is_over(_hashed("0123456789abcdef" * 4))
