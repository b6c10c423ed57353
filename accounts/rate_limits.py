"""Where the sign-in's rate limits and used codes are kept: rows that hold JSON of two shapes, and refuse all else.

A Django cache backend, because that is what the sign-in library counts in. It is none of Django's own, which unpickle what
they read: whoever writes to the database would run code in a process that has keys. What is not of these shapes is not
there. Each process also keeps what it wrote itself: who takes rows away lifts a limit in no process that counted.
"""

import hashlib
import json
import random
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import IntegrityError, transaction
from django.utils import timezone

FOR_EVER = datetime.max.replace(tzinfo=UTC)
CLOCKS = 60  # seconds that two web servers' clocks may differ by
LONGEST = 1000  # moments in one limit's history
KEPT = 50_000  # limits that a process keeps itself
SWEPT = 0.02  # of the writes, which also remove what has ended


class Kept(NamedTuple):
    """What a row held, until its end."""

    held: str
    ends_at: datetime


class OwnLimits:
    """What this process wrote itself."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    def get(self, name: str) -> Kept | None:
        found = self._kept.get(name)
        return found if found is not None and found.ends_at > timezone.now() else None

    def keep(self, name: str, held: str, ends_at: datetime) -> None:
        if len(self._kept) >= KEPT:
            now = timezone.now()
            living = [(key, one) for key, one in list(self._kept.items()) if one.ends_at > now]
            self._kept = dict(living[-KEPT // 2 :])
        self._kept[name] = Kept(held, ends_at)

    def drop(self, name: str) -> None:
        self._kept.pop(name, None)

    def clear(self) -> None:
        self._kept.clear()


class RateLimits(BaseCache):
    """Keys are kept as SHA-256: addresses of people are part of them."""

    own = OwnLimits()

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        name = self._hashed(key, version)
        held = self._rows.filter(pk=name, ends_at__gt=timezone.now()).values_list("held").first()
        own = self.own.get(name)
        found = [_read(text, default) for text in (held and held[0], own and own.held) if text is not None]
        if found and isinstance(default, list):
            return sorted({moment for moments in found for moment in moments}, reverse=True)  # the newest first
        return found[0] if found else default

    def has_key(self, key: str, version: int | None = None) -> bool:
        return self.get(key, version=version) is not None

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Whether it was not there: one of several at once is told so."""
        row = self._row(key, value, timeout, version)
        self._rows.filter(pk=row.pk, ends_at__lte=timezone.now()).delete()
        if self.own.get(row.pk) is not None:
            return False
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            return False
        self.own.keep(row.pk, row.held, row.ends_at)
        return True

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        row = self._row(key, value, timeout, version)
        self.own.keep(row.pk, row.held, row.ends_at)
        self._rows.bulk_create([row], update_conflicts=True, unique_fields=["key"], update_fields=["held", "ends_at"])
        if random.random() < SWEPT:  # noqa: S311 (nothing secret is drawn)
            self._rows.filter(ends_at__lte=timezone.now()).delete()

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        rows = self._rows.filter(pk=self._hashed(key, version), ends_at__gt=timezone.now())
        return bool(rows.update(ends_at=self._end(timeout)))

    def delete(self, key: str, version: int | None = None) -> bool:
        self.own.drop(self._hashed(key, version))
        return bool(self._rows.filter(pk=self._hashed(key, version)).delete()[0])

    def clear(self) -> None:
        self.own.clear()
        self._rows.all().delete()

    @property
    def _rows(self) -> Any:
        from accounts.models import RateLimit  # a cache is made before models are

        return RateLimit.objects

    def _row(self, key: str, value: Any, timeout: Any, version: int | None) -> Any:
        held = json.dumps(value)
        if _read(held, [] if isinstance(value, list) else None) != value:
            raise TypeError("Only moments, True and short texts are kept here.")
        return self._rows.model(key=self._hashed(key, version), held=held, ends_at=self._end(timeout))

    def _hashed(self, key: str, version: int | None) -> str:
        return hashlib.sha256(self.make_key(key, version=version).encode()).hexdigest()

    def _end(self, timeout: Any) -> datetime:
        seconds = self.get_backend_timeout(timeout)
        return FOR_EVER if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _read(held: str, default: Any) -> Any:
    """What a row holds when it is of our shapes: for whoever would take [] a list of moments that have been, in seconds since
    1970; for others True or a short text."""
    try:
        value = json.loads(held)
    except (ValueError, RecursionError):
        return default
    if isinstance(default, list):
        return value if isinstance(value, list) and len(value) <= LONGEST and all(map(_has_been, value)) else default
    return value if value is True or (isinstance(value, str) and len(value) <= 64) else default


def _has_been(moment: object) -> bool:
    return type(moment) in (int, float) and 0 <= moment <= time.time() + CLOCKS  # type: ignore[operator]
