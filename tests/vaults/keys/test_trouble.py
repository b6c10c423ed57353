"""Whatever fails on the way, every operation comes to the same end: no queue, two workers, a vault that fails or is sealed."""

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.urls import reverse

from accounts import audit
from operations.models import Operation
from operations.work import run, sweep
from tests.conftest import PASSWORD, HostedVault, Stage
from tests.faulty_vault import failing_at
from tests.http import Person
from tests.kmsruntime.conftest import *  # noqa: F403 (its fixtures)
from tests.kmsruntime.container import Container, save
from tests.live import ROOT, LivePortal
from tests.servers import free_port, start_valkey
from tests.vaults.keys.dying import grace_is_over, leases_end
from vaults.hosted import calls
from vaults.hosted.sessions import drop_tokens
from vaults.keys import shred
from vaults.keys.disable import disable_kms, enable_kms
from vaults.keys.rotation import request_rotation_of_all
from vaults.models import Recipient

pytestmark = pytest.mark.django_db(transaction=True)
ALL = ("interactive", "bulk", "watch", "shred")


def turns(count: int = 6) -> None:
    for _ in range(count):
        leases_end()
        sweep(queues=ALL)


def roles(stage: Stage) -> int:
    ours = {str(row.pk) for row in stage.account.recipients.all()}
    return len({role for mount in ("environments", "atoms") for role in calls.roles(mount)} & ours)


def disable(stage: Stage) -> None:
    disable_kms(stage.account, days=30, actor=stage.alice)


def enable(stage: Stage) -> None:
    disable(stage)
    turns(2)
    enable_kms(stage.account, actor=stage.alice)


def rotate(stage: Stage) -> None:
    request_rotation_of_all(stage.account, actor=stage.alice)


def shred_all(stage: Stage) -> None:
    disable(stage)
    turns(2)
    grace_is_over(stage.account)
    shred.ask_for_what_is_due()


def is_disabled(stage: Stage, vault: HostedVault) -> bool:
    return roles(stage) == 0


def is_enabled(stage: Stage, vault: HostedVault) -> bool:
    return roles(stage) == 4


def is_rotated(stage: Stage, vault: HostedVault) -> bool:
    found = vault.root.read_document("datakeys", f"{stage.production.pk}/0")
    versions = {(row.in_transit_version, row.oldest_version) for row in Recipient.objects.all()}
    return all(text.startswith("vault:v2:") for text in found.values()) and versions == {(2, 2)}


def is_shredded(stage: Stage, vault: HostedVault) -> bool:
    gone = {
        vault.root.status_of("GET", f"{row.mounts.transit}/keys/{row.pk}")[0] for row in stage.account.recipients.all()
    }
    return gone == {404} and stage.account.shred_certificates.count() == 1


Ask = Callable[[Stage], None]
Ended = Callable[[Stage, HostedVault], bool]
# What is asked, what it comes to, and a part of the paths it needs at the vault.
KINDS: dict[str, tuple[Ask, Ended, str]] = {
    "disable": (disable, is_disabled, "/role/"),
    "enable": (enable, is_enabled, "/role/"),
    "rotate": (rotate, is_rotated, "/rewrap/"),
    "shred": (shred_all, is_shredded, "/keys/"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def at_once(settings: Any) -> None:
    settings.ROTATION_SETTLE_SECONDS = 0


def check(stage: Stage, vault: HostedVault, ended: Ended) -> None:
    assert ended(stage, vault)
    assert not Operation.objects.unfinished().exists()
    assert not Operation.objects.filter(state=Operation.State.FAILED).exists()
    assert audit.first_broken(stage.account) is None


@every_kind
def test_two_workers_and_the_same_message_twice(stage: Stage, hosted_vault: HostedVault, kind: str) -> None:
    ask, ended, _ = KINDS[kind]
    save(stage, password="kept")
    ask(stage)
    barrier = threading.Barrier(3)

    def work() -> None:
        barrier.wait()
        for _ in range(4):
            for pk in list(Operation.objects.unfinished().values_list("pk", flat=True)):
                run(pk)
                run(pk)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turns(3)
    check(stage, hosted_vault, ended)


@every_kind
@pytest.mark.parametrize("how", ["fails", "fails after doing it", "is sealed", "is down"])
def test_a_vault_in_trouble_halfway_is_waited_for(
    stage: Stage, hosted_vault: HostedVault, settings: Any, kind: str, how: str
) -> None:
    ask, ended, part = KINDS[kind]
    save(stage, password="kept")
    ask(stage)
    address = settings.VAULT_ADDR
    status = 503 if how == "is sealed" else 500
    with failing_at(
        address, part, applied=how == "fails after doing it", after=kind != "rotate", status=status
    ) as proxy:
        settings.VAULT_ADDR = f"http://127.0.0.1:{free_port()}" if how == "is down" else proxy
        drop_tokens()
        sweep(queues=ALL)
        waiting = Operation.objects.unfinished().get()
        assert (waiting.state, waiting.troubles) == (Operation.State.WAITING, 1)
        assert waiting.error_sentence
    settings.VAULT_ADDR = address
    drop_tokens()
    assert not ended(stage, hosted_vault) or how == "fails after doing it"
    turns()
    check(stage, hosted_vault, ended)


def sweep_command(portal: LivePortal, credentials: str, *words: str) -> None:
    environment = portal.environment | {
        "KMS_CREDENTIALS": f"{portal.environment['CREDENTIALS']}/{credentials}",
        "KMS_ROTATION_SETTLE_SECONDS": "0",
    }
    for _ in range(3):
        leases_end()
        command = [sys.executable, "manage.py", "sweep", *words]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_whole_life_of_keys_without_a_queue(enrolled: Container, hosted_vault: HostedVault) -> None:
    """Redis and the workers are dead from the first click to the last: pages answer, and the sweep command does all of it."""
    portal, stage = enrolled.portal, enrolled.stage
    save(stage, password="through it all")
    enrolled.sync()
    alice = Person(portal.url, stage.alice.email, PASSWORD)
    account = reverse("vaults:kms_account", args=[stage.account.code])
    old = portal.valkey
    assert old is not None
    portal.rest()
    old.kill()
    try:
        assert alice.post(f"{account}rotate/", {}).status_code == 302
        sweep_command(portal, "worker")
        assert is_rotated(stage, hosted_vault)
        assert alice.post(f"{account}disable/", {"days": "30", "code": stage.account.code}).status_code == 302
        sweep_command(portal, "watch", "--watch")
        assert is_disabled(stage, hosted_vault)
        assert alice.post(f"{account}enable/", {}).status_code == 302
        sweep_command(portal, "worker")
        assert is_enabled(stage, hosted_vault)
        save(stage, apiKey="saved after it")
        fetching = threading.Thread(target=lambda: (enrolled.sync(), connection.close()))
        fetching.start()
        while fetching.is_alive():
            sweep_command(portal, "worker")
        assert enrolled.values()["Orders database/password"] == "through it all"
        assert enrolled.values()["Orders database/apiKey"] == "saved after it"
        shred_all(stage)
        sweep_command(portal, "shredder", "--shred")
        assert is_shredded(stage, hosted_vault)
    finally:
        portal.valkey = start_valkey(int(old.url.rsplit(":", 1)[1].split("/")[0]))
        old.stop()
