"""How long to wait before trying again: twice as long each time, spread so that many do not return together."""

import random


def backoff_seconds(troubles: int, least: float, most: float, *, spread: float = 0.25) -> float:
    """Seconds to wait after `troubles` earlier attempts in a row that came to nothing (0: this was the first).

    least, 2 × least, 4 × least … up to most, each longer or shorter by up to the part `spread`.
    """
    return min(most, least * 2.0 ** min(troubles, 32)) * jittered(1.0, spread)


def jittered(seconds: float, spread: float) -> float:
    """Longer or shorter by up to the part `spread`: a thousand containers that wait alike do not return together."""
    return seconds * random.uniform(1 - spread, 1 + spread)  # noqa: S311 spreads load, hides nothing
