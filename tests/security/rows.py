"""What whoever writes to the database does with rows: any column of any table, held back by no constraint."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from django.apps import apps
from django.db import DatabaseError, models, transaction
from django.db.models import Model

from tests.invariants.test_tampering import unconstrained

Table = type[Model]
Values = dict[str, Any]  # a row's columns
Snapshot = dict[Table, dict[Any, Values]]  # rows by their primary key


def tables() -> list[Table]:
    return list(apps.get_models(include_auto_created=True))


def columns(table: Table) -> list[models.Field[Any, Any]]:
    return [column for column in table._meta.concrete_fields if not column.primary_key]


def snapshot() -> Snapshot:
    """Every row of every table."""
    return {
        table: {row["pk"]: _plain(row) for row in table._base_manager.values("pk", *_names(table))}
        for table in tables()
    }


def _names(table: Table) -> list[str]:
    return [column.attname for column in table._meta.concrete_fields]


def _plain(row: Values) -> Values:
    return {name: bytes(one) if isinstance(one, memoryview) else one for name, one in row.items() if name != "pk"}


def write(table: Table, key: Any, values: Mapping[str, Any] | None) -> None:
    """The row is this, whatever there was; None: there is none. Raises DatabaseError where the database refuses it."""
    with unconstrained(), transaction.atomic():
        row = table._base_manager.filter(pk=key)
        if values is None:
            row._raw_delete("default")
        elif not row.update(**{name: one for name, one in values.items() if name != table._meta.pk.attname}):
            Model.save_base(table(**values), raw=True, force_insert=True)


@contextmanager
def written(table: Table, key: Any, values: Mapping[str, Any] | None) -> Iterator[bool]:
    """The row's columns are these inside the block, and as they were afterwards; whether the database took it.

    None: there is no such row inside the block. What somebody else wrote there meanwhile stays.
    """
    found = table._base_manager.filter(pk=key).values(*_names(table)).first()
    before = None if found is None else _plain(found)
    if values is not None and before is not None:
        before = {name: before[name] for name in values}
    try:
        write(table, key, values)
    except DatabaseError:  # unique, or not null: it cannot stand there
        yield False
        return
    try:
        yield True
    finally:
        now = table._base_manager.filter(pk=key).values(*_names(table)).first()
        if before is not None and now is not None and values is not None:
            before = {name: one for name, one in before.items() if _plain(now)[name] == values[name]}
        if now is not None or values is None:
            with suppress(DatabaseError):
                write(table, key, before)


def mapped(row: Values, own: str, pairs: Mapping[uuid.UUID, uuid.UUID]) -> Values:
    """Of the row's columns those that name somebody's id, pointed to the other one's; not its own id (column `own`)."""
    texts = {str(one): str(other) for one, other in pairs.items()}
    found: Values = {}
    for name, value in row.items():
        if name == own:
            continue
        if isinstance(value, uuid.UUID) and value in pairs:
            found[name] = pairs[value]
        elif isinstance(value, str) and value in texts:
            found[name] = texts[value]
    return found
