"""How often one container may ask: what is more is put off with 429, so that none takes the portal's time from the others.

Counted in this process's memory: with several, a container has as many allowances. A token bucket of each node; the one that
asked longest ago is forgotten first.
"""

import time
from collections import OrderedDict
from threading import Lock
from uuid import UUID

from django.conf import settings

from kmscore.refused import Refused

BURST_SECONDS = 10  # of asking that may come at once
_KEPT = 100_000  # nodes

_lock = Lock()
_left: "OrderedDict[UUID, tuple[float, float]]" = OrderedDict()  # of each node: requests left, and when


def take(node: UUID) -> None:
    """One request of this node. Raises Refused (too_many_requests)."""
    rate, now = settings.ATOM_REQUESTS_PER_SECOND, time.monotonic()
    with _lock:
        left, since = _left.pop(node, (rate * BURST_SECONDS, now))
        left = min(rate * BURST_SECONDS, left + (now - since) * rate)
        _left[node] = (max(left - 1, 0), now)
        if len(_left) > _KEPT:
            _left.popitem(last=False)
    if left < 1:
        raise Refused("too_many_requests", "This container asks too often; it is answered again in a moment.")
