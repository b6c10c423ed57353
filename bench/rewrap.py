"""Rotation of a key with 1,000, 10,000 and 100,000 data keys against a bare loop of batch rewraps at the same vault (goal ≤ 2).

The bare loop reads each document, rewraps it 400 at a time and patches it. Ours is the whole operation: the new version, both
readings, progress, rows, receipt and audit; only the pause between the readings is left out. Linear: the time per data key
of each size against that of the one before (goal ≤ 1.3). Memory: the peak of what Python allocates, 100,000 against 1,000
(goal ≤ 1.3).
"""

import time
import tracemalloc
import uuid
from collections.abc import Callable
from typing import Any

import scene

SIZES = (1_000, 10_000, 100_000)
RUNS = {1_000: 5, 10_000: 3, 100_000: 2}


def fill(environment: Any, count: int) -> None:
    """Data keys as saves make them, by row and by entry. The wrapped text is the same for all: to the vault it is all one."""
    from kmscore.vaultclient.client import chunks
    from vaults.hosted import calls
    from vaults.models import DOCUMENT_ENTRIES, DataKey, Recipient

    recipient = Recipient.objects.get(pk=environment.pk)
    wrapped = calls.new_data_key(recipient).wrapped
    rows = [
        DataKey(id=uuid.uuid4(), recipient=recipient, document=at // DOCUMENT_ENTRIES, key_version=1)
        for at in range(count)
    ]
    for document in chunks(rows, DOCUMENT_ENTRIES):
        for batch in chunks(document):
            calls.store_wrapped_keys(recipient, batch[0].document, {str(row.pk): wrapped for row in batch})
    DataKey.objects.bulk_create(rows, batch_size=1_000)
    Recipient.objects.filter(pk=environment.pk).update(data_keys_made=count)


def rotation(account: Any, environment: Any, user: Any) -> Callable[[], None]:
    from operations.models import Operation
    from operations.work import run
    from vaults.keys.rotation import request_rotation
    from vaults.models import Recipient

    def ours() -> None:
        operation = request_rotation(account, [Recipient.objects.get(pk=environment.pk)], actor=user)
        while not operation.is_finished:
            run(operation.pk)
            operation.refresh_from_db()
        assert operation.state == Operation.State.DONE, operation.error_sentence

    return ours


def bare_loop(recipient: Any, count: int) -> Callable[[], None]:
    from kmscore.vaultclient.client import chunks
    from vaults.hosted import calls
    from vaults.models import DOCUMENT_ENTRIES

    def rewrap() -> None:
        calls.rotate_key(recipient)
        for number in range(-(-count // DOCUMENT_ENTRIES)):
            entries = calls.read_document(recipient, number) or {}
            for batch in chunks(list(entries.items())):
                wrapped = calls.rewrap(recipient, [text for _, text in batch])
                ids = [key_id for key_id, _ in batch]
                calls.patch_document(recipient, number, dict(zip(ids, wrapped, strict=True)))

    return rewrap


def peak(function: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    with scene.portal():
        from django.conf import settings

        from atoms import actions as atoms
        from operations.work import sweep

        settings.ROTATION_SETTLE_SECONDS = 0
        account, _, user = scene.account("Rewrap", kms=True)
        each: dict[int, float] = {}
        memory: dict[int, int] = {}
        for count in SIZES:
            environment = atoms.create_environment(account, name=f"{count}", classification="PROD", actor=user)
            sweep()
            fill(environment, count)
            ours, bare = (
                rotation(account, environment, user),
                bare_loop(account.recipients.get(pk=environment.pk), count),
            )
            began = time.perf_counter()
            seconds, bare_seconds = scene.interleaved(RUNS[count], ours, bare)
            each[count], memory[count] = seconds / count, peak(ours)
            ratio = seconds / bare_seconds
            scene.line(f"rotation of {count:,} data keys / bare loop", ratio, "≤ 2", ratio <= 2)
            took = time.perf_counter() - began
            print(
                f"  {count / seconds:,.0f} data keys a second; peak {memory[count] / 2**20:.1f} MiB; {took:.0f} s in all"
            )
        for smaller, larger in zip(SIZES, SIZES[1:], strict=False):
            ratio = each[larger] / each[smaller]
            scene.line(f"time per data key, {larger:,} / {smaller:,}", ratio, "≤ 1.3", ratio <= 1.3)
        ratio = memory[SIZES[-1]] / memory[SIZES[0]]
        scene.line(f"peak memory, {SIZES[-1]:,} / {SIZES[0]:,}", ratio, "≤ 1.3", ratio <= 1.3)


if __name__ == "__main__":
    main()
