"""How counts, durations and dates are written for people, in the portal and in the container's program alike.

Pure, and the same in every locale of a machine. static/app.js keeps relative times on open pages and writes them likewise.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

DAY: Final = 86400  # seconds
_LONGEST: Final = 100 * 365 * DAY  # nothing is said to last longer
_LATEST: Final = 253402300799  # the last second of 9999; datetime knows no later one


def plural(count: int, noun: str) -> str:
    """``1 container``, ``3 containers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """The two largest units: ``45 s``, ``3 min``, ``23 h 59 min``, ``30 days``. Nothing below 0 s, at most a hundred years."""
    left, parts = int(min(max(seconds, 0), _LONGEST)), list[str]()
    for size, unit in ((DAY, "day"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(plural(count, unit) if unit == "day" else f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def age(seconds: float) -> str:
    """One unit, rounded down: ``12 s``, ``3 min``, ``5 h``, ``2 days``."""
    whole = int(seconds)
    unit = next((size for size in (DAY, 3600, 60) if whole >= size), 1)
    return duration(whole - whole % unit)


def ago(seconds: float) -> str:
    """``12 s ago``; ``in 5 h`` for what is yet to come."""
    return f"in {age(-seconds)}" if seconds < 0 else f"{age(seconds)} ago"


def day(moment: datetime) -> str:
    """``3 May 2026``, in UTC."""
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y}"


def date(seconds: float, now: float) -> str:
    """Of seconds since 1970: ``12 March 2027``; ``12 March 2027 14:05 UTC`` when it is less than two days from now."""
    moment = moment_of(seconds)
    return f"{day(moment)} {moment:%H:%M} UTC" if abs(moment.timestamp() - now) < 2 * DAY else day(moment)


def moment_of(seconds: float) -> datetime:
    """Seconds since 1970 as a date in UTC; the nearest one of 1970 to 9999 for what is none."""
    return datetime.fromtimestamp(min(max(seconds, 0), _LATEST), UTC)
