"""An attacker who has the live Redis: reads all that passes and lies there, writes and deletes what he likes.

On commit e0b1f14 the same steps won: `cancel_consumer` made the worker deaf for good, `inspect conf` told him the settings,
Celery's own tasks did what he named, and a message that was none stood in the log whole. On commit 6f1ad6c any worker took
whatever id it was told: the ordinary one took a shredding that was due, could not do it, and so ended it for good.
What messages that are none do is in tests/operations/test_queue_hostile.py, what a queue that swallows all does in
test_queue_dead.py.
"""

import json
import threading
import uuid
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import redis
from celery import Celery
from django.conf import settings as ours

from accounts import actions as accounts
from accounts.models import Role, User
from accounts.privileges import ADMINISTRATOR
from atoms.actions import create_installer_token
from operations.models import Operation
from tests.conftest import PASSWORD
from tests.kmsruntime.container import Container, save
from tests.live import LivePortal
from tests.operations.test_queue_dead import is_made, until
from tests.security.test_reads_the_database import session_cookie
from tests.security.visitor import Visitor
from vaults.keys import shred
from vaults.keys.disable import disable_kms
from vaults.models import KmsAccount

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
CANARY = "redis-canary-7d1c"


@pytest.fixture
def queue(portal: LivePortal) -> Iterator[redis.Redis]:
    assert portal.valkey is not None
    until(lambda: not Operation.objects.unfinished().exists(), 60)
    with redis.Redis.from_url(portal.valkey.url) as found:
        yield found


@pytest.fixture
def stranger(portal: LivePortal) -> Celery:
    """His own program at the same queue."""
    assert portal.valkey is not None
    return Celery("stranger", broker=portal.valkey.url, set_as_current=False)


@contextmanager
def overheard(queue: redis.Redis) -> Iterator[list[str]]:
    """All that anybody says to Redis inside the block, and, at its end, all that lies there."""
    heard: list[str] = []
    with queue.monitor() as monitor:

        def listen() -> None:
            with suppress(Exception):  # it was closed
                for said in monitor.listen():
                    heard.append(said["command"])
                    if said["command"] == "ECHO over":
                        return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            queue.echo("over")
            thread.join(10)
    for key in queue.scan_iter():
        heard.append(repr((key, queue.dump(key))))


def make(visitor: Visitor, portal: LivePortal, name: str) -> None:
    path = f"/accounts/{portal.stage.account.code}/environments/new/"
    assert visitor.post(path, {"name": name, "classification": "TEST"}).status == 302


def messages(heard: list[str]) -> list[dict[str, object]]:
    """What was put into a queue for a worker, while somebody listened."""
    put = (said.split(" ", 2) for said in heard if said.startswith(("LPUSH interactive ", "LPUSH bulk ")))
    return [json.loads(text.encode().decode("unicode_escape")) for _, _, text in put]


def test_he_reads_ids_and_nothing_else(
    portal: LivePortal, queue: redis.Redis, visitor: Callable[..., Visitor], container: Container
) -> None:
    stage = portal.stage
    token = create_installer_token(stage.atom, minutes=30, actor=stage.alice)[1]
    with overheard(queue) as heard:
        alice = visitor("alice")
        page = f"/accounts/{stage.account.code}/environments/{stage.production.pk}/extensions/"
        typed = {"expected_revision": "0", f"secret.{stage.field('password').pk}": CANARY}
        assert alice.post(page, typed).status == 302
        make(alice, portal, "Overheard")
        assert container.enrol_with(token).returncode == 0
        container.sync()
        until(lambda: is_made("Overheard"), 20)
    assert container.values()["Orders database/password"] == CANARY
    all_of_it = "\n".join(heard)
    secrets = [CANARY, PASSWORD, token, session_cookie(alice).value, ours.SECRET_KEY, ours.ROW_KEY.hex()]
    assert not [one for one in secrets if one in all_of_it]
    told = messages(heard)
    assert told, "he was there when workers were told"
    for message in told:
        arguments, named, links = json.loads(b64decode(str(message["body"])))
        assert Operation.objects.filter(pk=uuid.UUID(*arguments)).exists()
        assert (named, set(filter(None, links.values()))) == ({}, set()), "an id, and nothing to be called afterwards"


def test_his_commands_are_heard_by_nobody(
    portal: LivePortal, queue: redis.Redis, stranger: Celery, visitor: Callable[..., Visitor]
) -> None:
    worker, control = portal.processes["worker"], stranger.control
    for command in ("cancel_consumer", "add_consumer"):
        assert control.broadcast(command, {"queue": "interactive"}, reply=True, timeout=0.2) == []
    for command in ("conf", "stats", "registered", "active", "pool_restart", "time_limit", "rate_limit", "shutdown"):
        assert control.broadcast(command, reply=True, timeout=0.2) == [], command
    make(visitor("alice"), portal, "Heard of by ids alone")
    until(lambda: is_made("Heard of by ids alone"), 4)  # too soon for the clock: the queue told the worker
    assert worker.poll() is None


def test_a_genuine_message_a_thousand_times_is_done_once(
    portal: LivePortal, queue: redis.Redis, visitor: Callable[..., Visitor]
) -> None:
    alice = visitor("alice")
    with overheard(queue) as heard:
        make(alice, portal, "Once")
        until(lambda: is_made("Once"), 20)
    genuine = json.dumps(messages(heard)[-1])
    until(lambda: not Operation.objects.unfinished().exists(), 20)
    done = set(Operation.objects.values_list("pk", "attempts"))
    queue.lpush("interactive", *[genuine] * 1000)
    queue.lpush("interactive", *[genuine.replace("operations.run", "operations.swap")] * 1000)
    make(alice, portal, "After thousands")
    until(lambda: is_made("After thousands"), 45)
    assert done <= set(Operation.objects.values_list("pk", "attempts"))
    assert portal.logs().count("operations.swap") == 0, "what he names is not printed"


def test_whatever_he_deletes_and_whomever_he_cuts_off_the_work_is_done(
    portal: LivePortal, queue: redis.Redis, visitor: Callable[..., Visitor]
) -> None:
    alice, over = visitor("alice"), threading.Event()

    def rage() -> None:
        while not over.is_set():
            queue.flushall()
            queue.client_kill_filter(_type="normal", skipme=True)

    thread = threading.Thread(target=rage)
    thread.start()
    try:
        make(alice, portal, "All deleted")
        until(lambda: is_made("All deleted"), 45)
    finally:
        over.set()
        thread.join()
    assert Operation.objects.get(title__contains="All deleted").attempts == 1
    assert portal.processes["worker"].poll() is None


def test_a_worker_does_only_what_its_queue_is_for(portal: LivePortal, queue: redis.Redis, stranger: Celery) -> None:
    """A shredding that two people allowed, told to the worker that has no keys to do it with."""
    stage = portal.stage
    dora = User.objects.create_user("dora@example.com", PASSWORD)
    accounts.add_member(stage.account, dora, [Role.objects.get(pk=ADMINISTRATOR)], actor="tests")
    save(stage, password=CANARY)
    disable_kms(stage.account, days=30, actor=stage.alice)
    until(lambda: not Operation.objects.unfinished().exists(), 30)
    asked = shred.request_shred(stage.account, actor=stage.alice)
    shred.approve_shred(asked, actor=dora)
    for name in ("interactive", "bulk"):
        stranger.send_task("operations.run", (str(asked.pk),), queue=name)
    until(lambda: queue.llen("interactive") == queue.llen("bulk") == 0 and not queue.hlen("unacked"), 20)
    asked.refresh_from_db()
    assert (asked.state, asked.attempts) == (Operation.State.PENDING, 0)
    assert KmsAccount.objects.get(account=stage.account).state == KmsAccount.State.DISABLED
