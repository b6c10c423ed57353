"""Words and marks shared by all pages: times, durations, icons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from kmscore import wording

register = template.Library()

TONES = {"success": "ok", "warning": "warn", "error": "bad", "debug": "info", "info": "info"}
TONES |= {tone: tone for tone in ("ok", "warn", "bad")}


def aware(value: datetime) -> datetime:
    return value if timezone.is_aware(value) else value.replace(tzinfo=UTC)


@register.filter
def ago(value: datetime | None, now: datetime | None = None) -> str:
    """12 s ago, 3 min ago, in 5 h; the date once it is a week away. app.js says the same."""
    if not isinstance(value, datetime):
        return "never"
    seconds = int(((now or timezone.now()) - aware(value)).total_seconds())
    if abs(seconds) >= 7 * 86400:
        return wording.day(aware(value))
    return wording.ago(seconds)


@register.filter
def absolute(value: datetime | None) -> str:
    """3 May 2026, 14:03:22 UTC"""
    if not isinstance(value, datetime):
        return ""
    value = aware(value).astimezone(UTC)
    return f"{wording.day(value)}, {value:%H:%M:%S} UTC"


@register.filter
def iso(value: datetime | None) -> str:
    """For the datetime attribute of <time>."""
    return aware(value).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else ""


@register.filter
def duration(value: timedelta | float | None) -> str:
    """Two units at most: 45 s, 3 min, 2 h 5 min, 30 days. Takes a timedelta or seconds."""
    if value is None:
        return ""
    return wording.duration(value.total_seconds() if isinstance(value, timedelta) else value)


@register.simple_tag
def when(value: datetime | None, empty: str = "never") -> SafeString | str:
    """{% when atom.last_seen %}: relative, kept true by app.js, absolute UTC in the title."""
    if not isinstance(value, datetime):
        return empty
    return format_html('<time datetime="{}" title="{}" data-ago>{}</time>', iso(value), absolute(value), ago(value))


@register.simple_tag
@lru_cache(maxsize=256)
def icon(name: str, label: str = "") -> SafeString:
    """{% icon "key" %}: decoration; with a label it is read out."""
    if label:
        return format_html('<svg class="icon" role="img" aria-label="{}"><use href="#i-{}"/></svg>', label, name)
    return format_html('<svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>', name)


@register.filter
def codes(sentence: str) -> SafeString:
    """What stands between backticks, as code; everything is escaped."""
    parts = enumerate(sentence.split("`"))
    return format_html_join("", "{}", ((format_html("<code>{}</code>", part) if i % 2 else part,) for i, part in parts))


@register.filter
def tone(level: Any) -> str:
    """A message level or a word to the tone of a callout: ok, warn, bad, info."""
    return TONES.get(str(level), "info")


@register.filter
def lines(values: list[Any]) -> str:
    """One a line, for a code block."""
    return "\n".join(str(value) for value in values)


@register.filter
def words(name: str) -> str:
    """A fact's name as people read it: "from_version" is "From version"."""
    return str(name).replace("_", " ").capitalize()
