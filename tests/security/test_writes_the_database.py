"""An attacker who writes to the live database, and has nothing else.

On commit e0b1f14 the same steps won: a pickle in the table of rate limits ran in the web process at the next sign-in; a field
whose column `encrypted` was put to false had the next secret saved in the clear.
"""

import base64
import json
import os
import pickle
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.db import DatabaseError, connection
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import RateLimit, Session
from accounts.rows import RowTampered
from accounts.sessions import SessionStore
from atoms.models import Environment
from extensions.listing import NOTHING
from extensions.models import Connection, EnvironmentManifest, ExtensionValue, Field, ProcessProperty
from tests.conftest import PASSWORD, Stage
from tests.kmsruntime.container import save
from tests.live import LivePortal
from tests.security.test_reads_the_database import session_cookie
from tests.security.visitor import Visitor
from vaults.models import DataKey

pytestmark = pytest.mark.django_db(transaction=True)
TYPED = "typed-canary-5b1e"


class Evil:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def columns() -> list[tuple[str, str]]:
    """(table, column) of all there are."""
    with connection.cursor() as cursor:
        return [
            (table, column.name)
            for table in connection.introspection.table_names(cursor)
            for column in connection.introspection.get_table_description(cursor, table)
        ]


@contextmanager
def overwritten(table: str, column: str, value: str) -> Iterator[bool]:
    """The column of every row has this value, inside the block; whether it can."""
    with connection.cursor() as cursor:
        before = cursor.execute(f'SELECT "{column}", rowid FROM "{table}"').fetchall()  # noqa: S608
        try:
            cursor.execute(f'UPDATE "{table}" SET "{column}" = %s', [value])  # noqa: S608
        except DatabaseError:  # a constraint: it cannot stand there
            yield False
            return
        yield True
        cursor.execute("PRAGMA foreign_keys=OFF")
        cursor.executemany(f'UPDATE "{table}" SET "{column}" = %s WHERE rowid = %s', before)  # noqa: S608
        cursor.execute("PRAGMA foreign_keys=ON")


@pytest.mark.slow
def test_a_pickle_in_any_column_runs_nowhere(
    portal: LivePortal, visitor: Callable[..., Visitor], tmp_path: Path
) -> None:
    """One column after the other, as its bytes and as base64, while somebody signs in and somebody looks."""
    proof, tried = tmp_path / "ran", 0
    pickled = pickle.dumps(Evil(proof), protocol=0)
    alice, guesser = visitor("alice"), visitor()
    for table, column in columns():
        guesser.post("/auth/login/", {"login": "alice@example.com", "password": "wrong"})
        for text in (base64.b64encode(pickled).decode(), pickled.decode()):
            with overwritten(table, column, text) as written:
                if written:
                    guesser.post("/auth/login/", {"login": "alice@example.com", "password": "wrong again"})
                    alice.get(f"/accounts/{portal.stage.account.code}/audit/")
                    tried += 1
            assert not proof.exists(), (table, column)
    assert tried > 100


FULL = json.dumps([float("inf")] * 31)  # as if somebody had tried for ever


@pytest.mark.parametrize(
    "held",
    ["[" * 100_000, '{"a": 1}', "[true]", '["x"]', "null", "", "1e999", "[[1]]", '"y"', "true", FULL],
    ids=lambda held: held[:12],
)
def test_what_is_no_rate_limit_is_none(portal: LivePortal, visitor: Callable[..., Visitor], held: str) -> None:
    guesser = visitor()
    guesser.post("/auth/login/", {"login": "alice@example.com", "password": "wrong once"})
    RateLimit.objects.update(held=held)
    answer = guesser.post("/auth/login/", {"login": "alice@example.com", "password": "wrong again"})
    assert answer.status == 200
    assert "Too many" not in answer.text
    visitor("bob")


def test_a_session_that_was_written_moved_or_lengthened_signs_nobody_in(
    portal: LivePortal, visitor: Callable[..., Visitor]
) -> None:
    page = f"/accounts/{portal.stage.account.code}/audit/"
    alice, stranger = visitor("alice"), visitor("charlie")
    mine = SessionStore(session_cookie(stranger).value)
    row = Session.objects.get(session_key=mine.create_model_instance({}).session_key)
    other = Session.objects.exclude(pk=row.pk).get()
    for content in (other.session_data, json.dumps({"_auth_user_id": str(portal.stage.alice.pk)}), ""):
        Session.objects.filter(pk=row.pk).update(session_data=content)
        assert stranger.get(page).status == 302, "taken to the sign-in"
    assert alice.get(page).status == 200


def test_a_session_ends_after_its_time_whatever_its_row_says(
    portal: LivePortal, visitor: Callable[..., Visitor], settings: Any
) -> None:
    alice = visitor("alice")
    store = SessionStore(session_cookie(alice).value)
    content = store.load()
    content["_made"] -= settings.SESSION_COOKIE_AGE
    earlier = store.create_model_instance(content)  # as it would be, had she signed in that much earlier
    earlier.expire_date = timezone.now() + timedelta(days=400)
    earlier.save(force_update=True)
    assert alice.get(f"/accounts/{portal.stage.account.code}/audit/").status == 302


@pytest.mark.parametrize("stored", ["", "JBSWY3DPEHPK3PXP", "aes256-gcm:1:", "aes256-gcm:1:AAAA", None, 7])
def test_a_second_factor_that_was_written_lets_nobody_in(
    portal: LivePortal, visitor: Callable[..., Visitor], stored: object
) -> None:
    alice = portal.stage.cast.alice
    factor = TOTP.activate(alice, generate_totp_secret()).instance
    type(factor).objects.filter(pk=factor.pk).update(data={"secret": stored})
    thief = visitor()
    answer = thief.post("/auth/login/", {"login": alice.email, "password": PASSWORD})
    assert (answer.status, answer.location) == (200, ""), "the first factor alone lets nobody on to the second"
    assert thief.get(f"/accounts/{portal.stage.account.code}/audit/").status == 302


FORGED = "A record that grants access here was changed outside the portal"


@pytest.mark.parametrize(
    "changes", [{"encrypted": False}, {"label": "User"}, {"extensible": False}], ids=lambda changes: next(iter(changes))
)
def test_a_field_that_was_changed_takes_no_secret(
    portal: LivePortal, visitor: Callable[..., Visitor], changes: dict[str, Any]
) -> None:
    """The page was loaded before; the save looks for itself."""
    stage = portal.stage
    field, alice = stage.field("password"), visitor("alice")
    page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
    token = alice.token(page)
    Field.objects.filter(pk=field.pk).update(**changes)
    form = {"expected_revision": "0", f"value.{field.pk}": TYPED, f"secret.{field.pk}": TYPED}
    refused = alice.post(page, form, token)
    assert (refused.status, FORGED in " ".join(refused.text.split())) == (403, True)
    assert TYPED not in refused.text
    assert not ExtensionValue.objects.exists()


@pytest.mark.parametrize("column", ["component_value", "key", "connection"])
def test_a_field_or_connection_that_was_changed_sends_no_program_elsewhere(
    portal: LivePortal, visitor: Callable[..., Visitor], column: str
) -> None:
    stage, alice = portal.stage, visitor("alice")
    page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
    token = alice.token(page)
    if column == "connection":
        Connection.objects.filter(pk=stage.connection.pk).update(name="Another")
    else:
        Field.objects.filter(pk=stage.field("host").pk).update(**{column: "evil.example"})
    refused = alice.post(page, {"expected_revision": "0", f"value.{stage.field('user').pk}": "orders"}, token)
    assert (refused.status, FORGED in " ".join(refused.text.split())) == (403, True)
    assert not ExtensionValue.objects.exists()
    with pytest.raises(RowTampered):
        save(stage, user="orders")


def test_an_environment_that_goes_by_anothers_name_takes_nothing(
    portal: LivePortal, visitor: Callable[..., Visitor]
) -> None:
    """What somebody types for Production would else be sealed for Test."""
    stage, alice = portal.stage, visitor("alice")
    Environment.objects.filter(pk=stage.production.pk).update(name="Production before")
    Environment.objects.filter(pk=stage.test.pk).update(name="Production")
    assert alice.get(f"/accounts/{stage.account.code}/environments/{stage.test.pk}/extensions/").status == 403


def test_a_component_value_that_was_changed_is_shown_in_no_form(
    portal: LivePortal, visitor: Callable[..., Visitor]
) -> None:
    """Else whoever saves it makes it genuine."""
    stage, alice = portal.stage, visitor("alice")
    Field.objects.filter(pk=stage.field("host").pk).update(component_value="evil.example")
    answer = alice.get(f"/accounts/{stage.account.code}/connections/{stage.connection.pk}/")
    assert (answer.status, "evil.example" in answer.text) == (403, False)


@pytest.mark.parametrize("kind", ["value", "property"])
def test_a_plain_value_that_was_changed_is_not_taken_up_by_the_next_save(
    portal: LivePortal, visitor: Callable[..., Visitor], kind: str
) -> None:
    """An attack that succeeded: with the next revision beside it, the portal itself listed it for the containers."""
    stage = portal.stage
    save(stage, {"region": "eu"}, password="canary")
    host, rows = stage.field("host"), ExtensionValue.objects.filter(field=stage.field("host"))
    if kind == "value":
        rows.update(form="plain", plain="evil.example", revision=2)
        name, mended = "Orders database / Host", {f"value.{host.pk}": "db.example.com"}
    else:
        ProcessProperty.objects.update(plain="evil.example", revision=2)
        name, mended = "region", {"property.0.held": "region", "property.0.value": "eu"}
    alice = visitor("alice")
    page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
    form = {"expected_revision": "1", f"value.{stage.field('user').pk}": "orders"}
    refused = alice.post(page, form)
    assert refused.status == 422
    assert f"these were changed or taken away past the portal: {name}" in refused.text
    assert alice.post(page, form | mended).status == 302, "entered anew it is mended"
    assert not rows.filter(plain="evil.example").exists()
    assert not ProcessProperty.objects.filter(plain="evil.example").exists()


WRITES: dict[str, tuple[Callable[[Stage], object], str]] = {
    "an override that is said to follow the component": (
        lambda stage: values_of(stage, "host").update(form="component", plain="x"),
        "Orders database / Host",
    ),
    "an override that is taken away": (lambda stage: values_of(stage, "host").delete(), "Orders database / Host"),
    "a property that is taken away": (lambda stage: ProcessProperty.objects.filter(name="region").delete(), "region"),
    "a property that nobody entered": (
        lambda stage: ProcessProperty.objects.create(
            environment=stage.production, name="AAA_TARGET", plain="evil.example", revision=1, set_at=timezone.now()
        ),
        "AAA_TARGET",
    ),
    "a secret that is taken away": (lambda stage: values_of(stage, "password").delete(), "Orders database / Password"),
    "a secret that is said to be shredded": (
        lambda stage: DataKey.objects.update(lost_because="shredded"),
        "Orders database / Password",
    ),
    "a connection that is moved into another account": (
        lambda stage: Connection.objects.update(account=stage.cast.other),
        "Orders database / Password",
    ),
    "a field that is taken away, its value with it": (
        lambda stage: (values_of(stage, "password").delete(), stage.field("password").delete()),
        "password",
    ),
    "a value of another day": (
        lambda stage: values_of(stage, "host").update(set_at=timezone.now() + timedelta(days=1)),
        "Orders database / Host",
    ),
}


def values_of(stage: Stage, key: str) -> QuerySet[ExtensionValue]:
    return ExtensionValue.objects.filter(environment=stage.production, field=stage.field(key))


@pytest.mark.parametrize("name", WRITES)
def test_no_save_of_something_else_takes_up_what_was_written(
    portal: LivePortal, visitor: Callable[..., Visitor], name: str
) -> None:
    """On commit 4cd7d59 each of these won: the next save of anybody made it genuine, and the containers had it.

    Those of whole connections and fields won on commit 04c4fbf still: the next save deleted what was held for them.
    """
    stage, (write, named) = portal.stage, WRITES[name]
    save(stage, {"region": "eu"}, password="canary", host="db.example.com")
    before = EnvironmentManifest.objects.get(environment=stage.production).listed
    write(stage)
    page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
    refused = visitor("alice").post(page, {"expected_revision": "1", f"value.{stage.field('user').pk}": "orders"})
    assert refused.status == 422
    assert named in refused.text[refused.text.index("past the portal") :]
    assert EnvironmentManifest.objects.get(environment=stage.production).listed == before


@pytest.mark.parametrize("write", ["delete", "change", "older", "revision"])
def test_a_list_that_was_written_past_the_portal_stops_every_save(
    portal: LivePortal, visitor: Callable[..., Visitor], write: str
) -> None:
    stage = portal.stage
    save(stage, {"region": "eu"}, host="db.example.com")
    rows = EnvironmentManifest.objects.filter(environment=stage.production)
    older = rows.values("listed", "generation", "signature").get()
    save(stage, {"region": "us"})
    if write == "delete":
        rows.delete()
    elif write == "change":
        rows.update(listed=NOTHING.encode())
    elif write == "older":
        rows.update(**older)
    else:
        Environment.objects.filter(pk=stage.production.pk).update(extensions_revision=0)
    page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
    revision = "0" if write == "revision" else "2"
    assert visitor("alice").get(page).status == 403
    typed = {"expected_revision": revision, f"value.{stage.field('user').pk}": "orders"}
    assert stage.cast.client("alice").post(page, typed).status_code == 403
    assert not values_of(stage, "user").filter(plain="orders").exists()


@pytest.mark.parametrize("write", ["taken away", "slipped in"])
def test_what_is_typed_for_a_property_goes_to_that_property(
    portal: LivePortal, visitor: Callable[..., Visitor], write: str
) -> None:
    """On commit 4cd7d59 it went to whichever stood in that place of the table by then, under web's word."""
    stage = portal.stage
    save(stage, {"batchSize": "500", "region": "eu"})
    if write == "taken away":
        ProcessProperty.objects.filter(name="batchSize").delete()
        typed = {"property.0.held": "batchSize", "property.0.value": "9000"}
    else:
        rows = {"name": "AAA_TARGET", "plain": "", "revision": 1, "set_at": timezone.now()}
        ProcessProperty.objects.create(environment=stage.production, **rows)
        typed = {"property.1.held": "region", "property.1.value": "9000"}
    page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
    answer = visitor("alice").post(page, {"expected_revision": "1", **typed})
    held = dict(ProcessProperty.objects.values_list("name", "plain"))
    if write == "taken away":
        assert (answer.status, held) == (302, {"batchSize": "9000", "region": "eu"})
    else:
        assert (answer.status, held) == (422, {"AAA_TARGET": "", "batchSize": "500", "region": "eu"})


def test_a_row_of_no_field_breaks_no_save(portal: LivePortal, visitor: Callable[..., Visitor]) -> None:
    """On commit 4cd7d59 every save of that environment was an error of the server."""
    stage = portal.stage
    save(stage, host="db.example.com")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA foreign_keys=OFF")
        values_of(stage, "host").update(field_id=uuid.uuid4())
        cursor.execute("PRAGMA foreign_keys=ON")
    try:
        page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
        typed = {"expected_revision": "1", f"value.{stage.field('host').pk}": "again.example.com"}
        assert visitor("alice").post(page, typed).status == 302
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM extensions_extensionvalue WHERE field_id NOT IN (SELECT id FROM extensions_field)"
            )
