"""Kills a worker at every step of an operation, and lets another one go on."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from operations.models import Operation
from tests import live
from tests.conftest import HostedVault, database_url
from vaults import kms_audit
from vaults.models import KmsAccount

ROOT = Path(__file__).resolve().parents[3]


class DyingWorker:
    """A worker's process on the tests' database and vault. `sweep(n)` dies at step n."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def sweep(self, die_at: int = 0, *queues: str) -> int | None:
        """Do all that is due; the number of steps, or None when it died."""
        connection.close()  # its locks and its view of the database
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{die_at} {' '.join(queues)}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer == "died" or answer.isdigit(), f"the worker said {answer!r}"
        return None if answer == "died" else int(answer)


@contextmanager
def dying_worker(vault: HostedVault, credentials: str = "worker", **more: str) -> Iterator[DyingWorker]:
    """credentials: the file of the process that is played; more: its settings, KMS_… names."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("KMS_", "DJANGO_"))},
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "KMS_MODE": "development",
        "KMS_LOG_LEVEL": "CRITICAL",
        "KMS_VAR": str(vault.credentials.parent),
        "KMS_DATABASE_URL": database_url(),
        "KMS_REDIS_URL": "redis://127.0.0.1:1/0",  # nobody there: the rows alone own the work
        "KMS_VAULT_ADDR": settings.VAULT_ADDR,
        "KMS_CREDENTIALS": str(vault.credentials / credentials),
        **more,
    }
    working = [portal for portal in live.running if "worker" in portal.processes]
    for portal in working:  # its worker would be quicker
        portal.rest()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dying_worker"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield DyingWorker(process)
    finally:
        process.kill()
        process.wait()
        for portal in working:
            portal.work()


def leases_end() -> None:
    """As if a minute had passed since the worker died; and what waits for its time has it now."""
    past = timezone.now() - timedelta(seconds=1)
    Operation.objects.filter(state=Operation.State.RUNNING).update(lease_until=past)
    Operation.objects.filter(state__in=(Operation.State.PENDING, Operation.State.WAITING)).update(run_after=past)


def grace_is_over(account: Account) -> None:
    """As if the grace period had been chosen so that it is over now: by row and by audit entry."""
    kms = KmsAccount.objects.get(account=account)
    kms.ends_at = timezone.now() - timedelta(seconds=1)
    kms.save()
    with transaction.atomic():
        kms_audit.record(account, "DISABLE", "disabled", actor="tests", ends_at=str(kms.ends_at))


def killed_at_every_step(
    worker: DyingWorker, begin: Callable[[], Any], check: Callable[[Any], None], *queues: str
) -> int:
    """Begin, die at step 1, let another worker finish, check; again with step 2 … until one lives to the end.

    Returns how many times it died. begin() asks for a new operation and returns what check() needs.
    """
    number = 0
    while True:
        number += 1
        begun = begin()
        lived = worker.sweep(number, *queues)
        for _ in range(6):  # each turn ends where something waits for its time
            leases_end()
            worker.sweep(0, *queues)
        check(begun)
        if lived is not None:
            return number - 1
