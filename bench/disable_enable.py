"""Disabling and enabling an account of 1,000 Atoms with 100,000 values against the same account without any value.

No call and no query may be made per value: calls and queries are counted and must be the same (goal 1.00), the time may
differ by a little (goal ≤ 1.2).
"""

import time
import uuid
from typing import Any

import scene

ATOMS, FIELDS, ENVIRONMENTS = 1_000, 10_000, 10


def fill_atoms(account: Any, user: Any) -> None:
    """Rows and keys as Atom Management makes them, without its pages."""
    from atoms.models import Atom
    from vaults.models import Recipient

    rows = [Atom(account=account, name=f"Atom {number}", created_by=user) for number in range(ATOMS)]
    for row in rows:
        row.signed()
    Atom.objects.bulk_create(rows, batch_size=500)
    Recipient.objects.bulk_create([Recipient(id=row.pk, account=account, kind="atom") for row in rows], batch_size=500)


def fill_values(account: Any, environments: list[Any]) -> None:
    """100,000 sealed values, each with a data key of its own, as rows; what they say does not matter here."""
    from django.utils import timezone

    from extensions.models import Connection, ExtensionValue, Field
    from vaults.models import DataKey

    connection = Connection.objects.create(account=account, name="Bench")
    fields = [Field(connection=connection, key=f"f{at}", label=f"Field {at}", encrypted=True) for at in range(FIELDS)]
    Field.objects.bulk_create((field.signed() for field in fields), batch_size=1_000)
    now = timezone.now()
    for environment in environments:
        keys = [
            DataKey(id=uuid.uuid4(), recipient_id=environment.pk, document=at // 500, key_version=1)
            for at in range(FIELDS)
        ]
        DataKey.objects.bulk_create(keys, batch_size=1_000)
        values = [
            ExtensionValue(
                environment=environment,
                field=field,
                form="sealed",
                sealed=b"x" * 80,
                data_key=key,
                revision=1,
                set_at=now,
            )
            for field, key in zip(fields, keys, strict=True)
        ]
        ExtensionValue.objects.bulk_create(values, batch_size=1_000)


def disable_and_enable(account: Any, user: Any) -> tuple[float, int, int]:
    """Seconds, vault calls and queries of both together."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from kmscore.vaultclient.http import HttpClient
    from operations.work import sweep
    from vaults.keys.disable import disable_kms, enable_kms

    calls = 0
    real = HttpClient.request

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(self, *arguments, **named)

    HttpClient.request = counted  # type: ignore[method-assign]
    began = time.perf_counter()
    try:
        with CaptureQueriesContext(connection) as queries:
            disable_kms(account, days=30, actor=user)
            while sweep():
                pass
            enable_kms(account, actor=user)
            while sweep():
                pass
    finally:
        HttpClient.request = real  # type: ignore[method-assign]
    return time.perf_counter() - began, calls, len(queries)


def main() -> None:
    with scene.portal():
        from django.db import connection

        from atoms import actions as atoms
        from operations.work import sweep

        connection.queries_log = __import__("collections").deque(maxlen=1_000_000)
        account, first, user = scene.account("Bench", kms=True)
        environments = [first] + [
            atoms.create_environment(account, name=f"Environment {at}", classification="TEST", actor=user)
            for at in range(1, ENVIRONMENTS)
        ]
        sweep()
        fill_atoms(account, user)
        disable_and_enable(account, user)  # makes the Atoms' keys
        without = disable_and_enable(account, user)
        fill_values(account, environments)
        with_values = disable_and_enable(account, user)
        print(f"{ATOMS:,} Atoms, {FIELDS * ENVIRONMENTS:,} values, against none:")
        print(
            f"  vault calls  {with_values[1] / without[1]:.2f}  (goal 1.00; {with_values[1] / ATOMS:.1f} for each Atom)"
        )
        print(
            f"  queries      {with_values[2] / without[2]:.2f}  (goal 1.00; {with_values[2] / ATOMS:.1f} for each Atom)"
        )
        print(f"  time         {with_values[0] / without[0]:.2f}  (goal ≤ 1.2)")


if __name__ == "__main__":
    main()
