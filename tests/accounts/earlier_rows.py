"""Rows as they were, put back past the portal."""

from typing import Any

import pytest
from django.db import models

from accounts import rows


def kept(row: models.Model) -> dict[str, Any]:
    """All columns of the row as it stands there."""
    return dict(type(row)._base_manager.filter(pk=row.pk).values().get())


def put_back(row: models.Model, columns: dict[str, Any]) -> Any:
    """Past the portal; and the row as it is found then."""
    manager = type(row)._base_manager
    if not manager.filter(pk=row.pk).update(**columns):
        models.Model.save_base(type(row)(**columns), raw=True, force_insert=True)
    return manager.get(pk=row.pk)


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if two seconds had passed after each act."""
    monkeypatch.setattr(rows, "RACE_SECONDS", 0.0)
