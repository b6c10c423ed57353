"""How long to wait before trying again: twice as long each time, spread so that many do not return together."""

import random


def backoff_seconds(troubles: int, least: float, most: float) -> float:
    """Seconds to wait after `troubles` earlier attempts in a row that came to nothing (0: this was the first).

    least, 2 × least, 4 × least … up to most, each spread by a quarter either way.
    """
    return min(most, least * 2.0 ** min(troubles, 32)) * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)
