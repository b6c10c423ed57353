"""What the benches measure on: a raft OpenBao with its audit log on, and the portal on SQLite with full durability.

Everything is made in a temporary directory and taken away again. Figures are ratios of medians of interleaved runs, because
a machine's milliseconds say little about another's.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PASSWORD = "correct horse battery staple"  # of the bench's own user


@contextmanager
def portal() -> Iterator[Any]:
    """Start the vault, set Django up on a database of its own; yields the OpenBao."""
    from hosted import hosted_vault

    from tests.keys import write_development_keys
    from vaults.hosted.credentials import Credentials, write_credentials

    with hosted_vault() as hosted:
        everything = hosted.place.directory("credentials") / "all"
        write_development_keys(everything)
        write_credentials(everything, Credentials(1, hosted.logins))
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "KMS_VAR": str(hosted.place.var),
            "KMS_DATABASE_URL": f"sqlite:///{hosted.place.database}",
            "KMS_VAULT_ADDR": hosted.openbao.address,
            "KMS_CREDENTIALS": str(everything),
            "KMS_LOG_LEVEL": "ERROR",
            "KMS_ATOM_REQUESTS_PER_SECOND": "1000000",
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield hosted.openbao


def account(name: str, *, kms: bool) -> Any:
    """An account with an administrator, bench@example.com, and one environment."""
    from accounts import actions as accounts
    from accounts.models import Role, User
    from accounts.privileges import ADMINISTRATOR
    from atoms import actions as atoms
    from operations.work import sweep
    from vaults.keys.provision import activate_kms

    user = User.objects.filter(email="bench@example.com").first() or User.objects.create_user(
        "bench@example.com", PASSWORD
    )
    made = accounts.create_account(name, actor="bench")
    accounts.add_member(made, user, [Role.objects.get(pk=ADMINISTRATOR)], actor="bench")
    if kms:
        activate_kms(made, actor="bench")
    made.refresh_from_db()
    environment = atoms.create_environment(made, name="Production", classification="PROD", actor=user)
    sweep()
    environment.refresh_from_db()
    return made, environment, user


def reported(atom: Any) -> None:
    """One node of an Atom that reported a moment ago."""
    from django.utils import timezone

    from atoms.models import Node
    from vaults.models import ContainerReport

    now = timezone.now()
    node = Node.objects.create(atom=atom, host_name="bench", state="enrolled", enrolled_at=now, last_seen_at=now)
    ContainerReport.objects.create(node=node, reported_at=now, key_version=1, sealed_at=now, values=4)


def connection(made: Any, count: int, *, encrypted: bool) -> list[Any]:
    """A connection with `count` fields."""
    from extensions.models import Connection, Field

    row = Connection.objects.create(account=made, name="Bench")
    return [
        Field.objects.create(
            connection=row, key=f"f{number}", label=f"Field {number}", encrypted=encrypted, position=number
        )
        for number in range(count)
    ]


def interleaved(runs: int, *functions: Callable[[], Any]) -> list[float]:
    """Median seconds of each function, run in turns so that a slow moment hits all of them."""
    times: list[list[float]] = [[] for _ in functions]
    for number in range(runs + 1):
        for function, kept in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if number:  # the first turn warms up
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def line(name: str, ratio: float, goal: str, good: bool) -> None:
    print(f"{name:58} {ratio:6.2f}  goal {goal:12} {'met' if good else 'MISSED'}", flush=True)
