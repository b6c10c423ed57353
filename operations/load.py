"""The load: whether people wait for the vault just now. Then bulk work keeps out of the way.

The processes that serve people write it (`record_wait`), bulk work reads it (`is_high`). It goes through the database,
because the queue may be dead.
"""

import threading
import time
from collections import deque
from datetime import timedelta

from django.utils import timezone

from operations.models import Load

SLOW_SECONDS = 0.25  # 95 of 100 calls should be quicker
FEWEST = 4  # calls that say anything; a save makes two
WINDOW_SECONDS = 10.0  # how long a call counts
LASTS = timedelta(seconds=5)
WRITE_SECONDS = 2.0  # between two writes

_lock = threading.Lock()
_calls: deque[tuple[float, float]] = deque(maxlen=200)  # when it ended, how long it took
_written = 0.0


def record_wait(seconds: float) -> None:
    """Somebody waited this long for a vault call. Never called inside a transaction."""
    global _written
    now = time.monotonic()
    with _lock:
        _calls.append((now, seconds))
        recent = sorted(took for ended, took in _calls if now - ended < WINDOW_SECONDS)
        slow = len(recent) >= FEWEST and recent[int(len(recent) * 0.95)] > SLOW_SECONDS
        if not slow or now - _written < WRITE_SECONDS:
            return
        _written = now
    Load.objects.update_or_create(pk=1, defaults={"until": timezone.now() + LASTS})


def is_high() -> bool:
    return Load.objects.filter(until__gt=timezone.now()).exists()
