"""I8: whatever an attacker changes in the database, the runtime gives the true values or refuses; never others.

Every column of every table that a delivery is made from is tried: with the values other rows have there, and with values
near its own. A fresh container (no memory) and one that holds an earlier revision are both asked.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, models, transaction

from accounts import memory
from atoms.models import Atom, Environment
from extensions.actions import save_extensions
from extensions.models import Connection, EnvironmentManifest, ExtensionValue, Field, ProcessProperty
from extensions.plan import FieldChange, PropertyChange
from extensions.secret import Secret
from kmsruntime.errors import RevisionLower, RuntimeProblem
from tests.kmsruntime.container import Container, save
from vaults.models import DataKey

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
TABLES = (ExtensionValue, ProcessProperty, EnvironmentManifest, DataKey, Field, Connection, Environment, Atom)


def fill(container: Container) -> None:
    """Two environments that hold different values for the same paths, in several revisions."""
    stage = container.stage
    save(stage, {"region": "eu", "size": "500"}, password="production password", apiKey="production key", user="orders")
    save(stage, {"region": "us"}, apiKey="newer production key")
    changes = [
        FieldChange(stage.field("password"), "secret", Secret("test password")),
        FieldChange(stage.field("apiKey"), "secret", Secret("test key")),
        FieldChange(stage.field("user"), "plain", "tester"),
    ]
    properties = [PropertyChange("region", "test"), PropertyChange("size", "1")]
    save_extensions(stage.test, changes, properties, expected_revision=0, actor=stage.alice)


def rows() -> Iterator[models.Model]:
    for table in TABLES:
        yield from table.objects.all()


def variants(row: models.Model, field: "models.Field[Any, Any]") -> list[Any]:
    """What an attacker would write into this column: other rows' values, and some near its own."""
    own = getattr(row, field.attname)
    others = type(row)._default_manager.exclude(pk=row.pk).values_list(field.attname, flat=True)
    found: list[Any] = list(others)
    if isinstance(own, bool):
        found.append(not own)
    elif isinstance(own, int):
        found += [own + 1, max(own - 1, 0)]
    elif isinstance(own, str):
        found += [own + "x", ""]
    elif isinstance(own, bytes | memoryview):
        data = bytes(own)
        found += [data[:-1] + bytes([data[-1] ^ 1]), data[:20], b""]
    elif isinstance(own, uuid.UUID):
        found.append(uuid.uuid4())
    if field.choices:
        found += [choice for choice, _ in field.choices]
    seen: list[Any] = []
    for value in found:
        plain = bytes(value) if isinstance(value, memoryview) else value
        if plain != own and plain not in seen:
            seen.append(plain)
    return seen[:6]


@contextmanager
def changed(row: models.Model, field: "models.Field[Any, Any]", value: Any) -> Iterator[bool]:
    """The column holds the value inside the block; False when the database itself refuses it."""
    table = type(row)._default_manager.filter(pk=row.pk)
    own = getattr(row, field.attname)
    with unconstrained():
        try:
            with transaction.atomic():
                table.update(**{field.attname: value})
        except IntegrityError:
            yield False
            return
        try:
            yield True
        finally:
            table.update(**{field.attname: own})


@contextmanager
def unconstrained() -> Iterator[None]:
    """An attacker at the database is held back by neither checks nor foreign keys."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints=ON")
            cursor.execute("PRAGMA foreign_keys=OFF")
    yield
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints=OFF")
            cursor.execute("PRAGMA foreign_keys=ON")


def outcome(container: Container, start: Path, where: Path) -> dict[str, str] | None:
    """What a container that starts from this directory gives its programs after a sync; None when it refused."""
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(start, where)
    copy = Container(container.portal, where)
    try:
        copy.sync()
    except RuntimeProblem:
        return None
    return copy.values()


def test_a_changed_column_gives_the_truth_or_a_refusal(enrolled: Container, tmp_path: Path) -> None:
    fresh, where = tmp_path / "fresh", tmp_path / "copy"
    shutil.copytree(enrolled.directory, fresh)
    fill(enrolled)
    truth = outcome(enrolled, fresh, where)
    assert truth is not None
    assert truth["Orders database/password"] == "production password"
    assert truth["Orders database/apiKey"] == "newer production key"
    tried, refused, wrong = 0, 0, []
    for row in rows():
        for field in (one for one in row._meta.concrete_fields if not one.primary_key):
            for value in variants(row, field):
                with changed(row, field, value) as done:
                    if not done:
                        continue
                    found = outcome(enrolled, fresh, where)
                    tried += 1
                    refused += found is None
                    if found is not None and found != truth:
                        wrong.append((row._meta.label, field.name, str(row.pk)))
        assert outcome(enrolled, fresh, where) == truth, "the row was not put back"
    assert wrong == []
    assert tried > 200
    assert refused > 50
    assert outcome(enrolled, fresh, where) == truth


def test_swapped_contents_of_two_rows_are_refused(enrolled: Container, tmp_path: Path) -> None:
    fresh, where = tmp_path / "fresh", tmp_path / "copy"
    shutil.copytree(enrolled.directory, fresh)
    fill(enrolled)
    sealed = list(ExtensionValue.objects.filter(form="sealed"))
    columns = ("sealed", "data_key_id", "revision")
    for first in sealed:
        for second in sealed:
            if first.pk == second.pk:
                continue
            ours, theirs = ({name: getattr(row, name) for name in columns} for row in (first, second))
            with unconstrained():
                ExtensionValue.objects.filter(pk=first.pk).update(**theirs)
                ExtensionValue.objects.filter(pk=second.pk).update(**ours)
                found = outcome(enrolled, fresh, where)
                ExtensionValue.objects.filter(pk=first.pk).update(**ours)
                ExtensionValue.objects.filter(pk=second.pk).update(**theirs)
            production = enrolled.stage.production.pk
            assert found is None or production not in (first.environment_id, second.environment_id)


def test_a_dropped_row_is_refused(enrolled: Container, tmp_path: Path) -> None:
    fresh, where = tmp_path / "fresh", tmp_path / "copy"
    shutil.copytree(enrolled.directory, fresh)
    fill(enrolled)
    production = enrolled.stage.production
    for table in (ExtensionValue, ProcessProperty, EnvironmentManifest):
        for row in table.objects.filter(environment=production):
            table.objects.filter(pk=row.pk)._raw_delete("default")
            assert outcome(enrolled, fresh, where) is None, row
            models.Model.save_base(row, raw=True, force_insert=True)


def test_a_rolled_back_database_is_refused_by_a_container_with_memory(enrolled: Container, tmp_path: Path) -> None:
    save(enrolled.stage, password="old password", apiKey="old key")
    before = {table: list(table.objects.all()) for table in TABLES}
    save(enrolled.stage, password="new password")
    enrolled.sync()
    start, where = enrolled.directory, tmp_path / "copy"
    truth = enrolled.values()
    for table in (*TABLES, None):  # each table alone, then all of them
        rolled = TABLES if table is None else (table,)
        after = {one: list(one.objects.all()) for one in rolled}
        with unconstrained():
            restore(before, rolled)
            found = outcome(enrolled, start, where)
            restore(after, rolled)
        assert found is None or found == truth, table
    with unconstrained():
        restore(before, TABLES)
    with pytest.raises(RevisionLower):
        enrolled.sync()
    assert enrolled.values() == truth


def test_a_value_of_another_timeline_is_refused(enrolled: Container, tmp_path: Path) -> None:
    """Saved, rolled back as by a restore, saved again: two values of one place and revision, each under a key of its own."""
    fresh, where = tmp_path / "fresh", tmp_path / "copy"
    shutil.copytree(enrolled.directory, fresh)
    save(enrolled.stage, password="before both")
    before = {table: list(table.objects.all()) for table in TABLES}
    save(enrolled.stage, password="abandoned")
    enrolled.sync()
    abandoned = ExtensionValue.objects.get(form="sealed")
    key = DataKey.objects.get(pk=abandoned.data_key_id)
    with unconstrained():
        restore(before, TABLES)
    memory.forget()
    save(enrolled.stage, password="kept")
    kept = ExtensionValue.objects.get(form="sealed")
    assert (kept.revision, kept.pk) == (abandoned.revision, abandoned.pk)
    truth = outcome(enrolled, fresh, where)
    assert truth is not None
    assert truth["Orders database/password"] == "kept"

    models.Model.save_base(key, raw=True, force_insert=True)
    abandoned.save()
    assert outcome(enrolled, fresh, where) is None
    kept.save()
    save(enrolled.stage, apiKey="a newer revision")
    assert outcome(enrolled, enrolled.directory, where) is None, "it holds the abandoned value"


def restore(kept: dict[Any, list[Any]], tables: tuple[Any, ...]) -> None:
    for table in tables:
        table._base_manager.exclude(pk__in=[row.pk for row in kept[table]])._raw_delete("default")
        for row in kept[table]:
            models.Model.save_base(row, raw=True)
