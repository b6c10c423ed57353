"""The runtime's start: cold, for N secrets each with a data key of its own, until the store is durable; and from the store.

Against a bare loop of the same work (goal ≤ 1.3), against one hvac call per secret (goal ≥ 25 times as fast at 1,000, ≥ 35 at
10,000), restart from the store against a bare read (goal ≤ 1.3), and with the vault 40 ms away (goal: 4 round trips in
series + 1.5 times the bare loop beside the vault). Raft storage, audit on, medians of interleaved runs. Programs' start-up
(imports) is in none of the figures.

    .venv/bin/python bench/runtime_start.py [N …]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import scene
from runtime_network import running
from runtime_peers import BareLoop, OneCallPerSecret
from runtime_scene import BenchEnvironment, Platform, container, environment, platform

from kmsruntime.container import Container
from kmsruntime.disk import credentials
from kmsruntime.disk.home import Home
from kmsruntime.store.file import StoreFile
from kmsruntime.sync import Synchroniser
from tests.servers import free_port

RUNS = {10: 41, 100: 31, 1_000: 15, 10_000: 7}
AHEAD = {1_000: 25, 10_000: 35}
SAMPLE = 1_000  # of 10,000 calls one by one; the rest is extrapolated
ROUND_TRIP = 40  # ms
SERIES = 4


def cold(home: Home) -> None:
    """A container that holds nothing: everything from the first request to the durable store, and the report after it."""
    home.store.unlink(missing_ok=True)
    Synchroniser(Container(home), lambda seconds: True, print).sync()


def cold_until_durable(home: Home) -> float:
    """Seconds until the store is durable; the report comes after that."""
    home.store.unlink(missing_ok=True)
    start = time.perf_counter()
    synchroniser = Synchroniser(Container(home), lambda seconds: True, print)
    durable: list[float] = []
    keys = synchroniser.sealed_state.file._keys
    keep_only = keys.keep_only  # the first thing after the store is durable: the old key's file goes

    def keep_only_timed(key_id: str) -> None:
        durable.append(time.perf_counter())
        keep_only(key_id)

    keys.keep_only = keep_only_timed  # type: ignore[method-assign]
    synchroniser.sync()
    return durable[0] - start


def restart(file: StoreFile) -> None:
    store = file.read()
    assert store is not None
    assert store.open_all()


def measured(runs: int, *functions: Callable[[], float | None | object]) -> list[float]:
    """As scene.interleaved; a function that returns seconds has measured itself."""
    import statistics

    times: list[list[float]] = [[] for _ in functions]
    for number in range(runs + 2):
        for function, kept in zip(functions, times, strict=True):
            start = time.perf_counter()
            found = function()
            seconds = found if isinstance(found, float) else time.perf_counter() - start
            if number > 1:  # the first turns warm up
                kept.append(seconds)
    return [statistics.median(kept) for kept in times]


def bench(hosted: Platform, held: BenchEnvironment, stack: ExitStack) -> None:
    count, runs = held.count, RUNS.get(held.count, 11)
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    answer = directory / "answer"
    answer.write_bytes(held.answer)
    portal = stack.enter_context(running("portal", free_port(), answer))
    home = container(directory / "near", hosted, held, portal, hosted.address)
    atom = credentials.read_atom(home).login
    bare = BareLoop(portal, hosted.address, held, atom, directory)
    ours, theirs, whole = measured(runs, lambda: cold_until_durable(home), bare.run, lambda: cold(home))
    print(
        f"\n{count:,} secrets: durable after {ours * 1e3:.1f} ms (bare {theirs * 1e3:.1f}), reported {whole * 1e3:.1f}"
    )
    scene.line(f"cold start, {count:,}: ÷ bare loop", ours / theirs, "≤ 1.30", ours / theirs <= 1.3)
    scene.line(f"cold start with the report, {count:,}: ÷ bare loop", whole / theirs, "-", True)
    if count in AHEAD:
        ahead = one_by_one(home, portal, hosted, bare)
        scene.line(
            f"one hvac call per secret, {count:,}: ÷ cold start", ahead, f"≥ {AHEAD[count]}", ahead >= AHEAD[count]
        )
    file = StoreFile(home, home.read_config())
    again, bare_again = measured(max(runs, 15), lambda: restart(file), bare.restart)
    scene.line(
        f"restart from the store, {count:,}: ÷ bare read", again / bare_again, "≤ 1.30", again / bare_again <= 1.3
    )
    far = stack.enter_context(running("delay", free_port(), hosted.port, ROUND_TRIP))
    away = container(directory / "far", hosted, held, portal, far)
    (late,) = measured(max(runs // 3, 3), lambda: cold_until_durable(away))
    limit = SERIES * ROUND_TRIP / 1e3 + 1.5 * theirs
    scene.line(
        f"vault {ROUND_TRIP} ms away, {count:,}: {late * 1e3:.0f} ms ÷ limit {limit * 1e3:.0f} ms",
        late / limit,
        "≤ 1.00",
        late <= limit,
    )


def one_by_one(home: Home, portal: str, hosted: Platform, bare: BareLoop) -> float:
    """How many times as long one hvac call per secret takes; beyond SAMPLE secrets extrapolated from so many, and said."""
    held = bare.environment
    naive = OneCallPerSecret(portal, hosted.address, held, bare.atom, home.directory)
    whole = held.count <= SAMPLE
    naive.most = held.count if whole else SAMPLE
    ours, theirs = measured(7, lambda: cold_until_durable(home), naive.run if whole else naive.unwrap_only)
    if not whole:
        print(f"  (one call per secret: {SAMPLE:,} of {held.count:,} calls measured, the rest extrapolated)")
        theirs *= held.count / SAMPLE
    return theirs / ours


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or list(RUNS)
    with platform() as hosted:
        for count in counts:
            with ExitStack() as stack:
                bench(hosted, environment(hosted, count), stack)


if __name__ == "__main__":
    main()
