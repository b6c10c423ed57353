"""Whoever holds Redis writes what he likes into the queue: no worker does it, prints it or ends because of it."""

import os
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from operations.models import Operation
from tests.conftest import PASSWORD
from tests.http import Person
from tests.live import LivePortal
from tests.operations.test_queue_dead import is_made, make_environment, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

NO_MESSAGES = [
    *(b"canary", b"canary \xff\xfe", b"", b"{}", b"[]", b"null", b'"canary"', b"7", b"[" * 100_000),
    b'{"body": "canary"}',
    b'{"body": "canary", "properties": {"delivery_info": "canary", "delivery_tag": ["canary"]}}',
    b'{"body": "canary", "headers": "canary", "properties": {"delivery_tag": "canary", "body_encoding": "base64"}}',
    b'{"body": "canary", "content-type": "canary", "content-encoding": "canary", "headers": {"task": ["canary"]},'
    b' "properties": {"delivery_tag": "canary2", "delivery_info": {"exchange": "canary", "routing_key": "canary"}}}',
]
NOT_OURS: list[tuple[str, Any, Any]] = [
    ("canary.task", ["canary"], {}),
    ("os.system", ["canary"], {}),
    ("celery.map", ({"task": "operations.run", "args": []}, ["canary"]), {}),
    ("celery.backend_cleanup", (), {}),
    ("operations.sweep", (), {}),
    ("vaults.scan_logins", (), {}),
    ("operations.run", (), {}),
    ("operations.run", ("canary", "canary"), {}),
    ("operations.run", (), {"canary": "canary"}),
    ("operations.run", (["canary"],), {}),
    ("operations.run", ({"canary": "canary"},), {}),
    ("operations.run", (None,), {}),
    ("operations.run", ("canary\nFORGED",), {}),
    ("operations.run", (10**400,), {}),
]


class Runs:
    """What a pickle does when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_a_message_that_is_not_ours_runs_nothing_and_is_not_printed(portal: LivePortal, tmp_path: Path) -> None:
    assert portal.valkey is not None
    until(lambda: not Operation.objects.unfinished().exists(), 60)
    done = set(Operation.objects.values_list("pk", "attempts"))
    worker = portal.processes["worker"]
    stranger = Celery("stranger", broker=portal.valkey.url, set_as_current=False)
    stranger.conf.task_serializer = "json"
    with redis.Redis.from_url(portal.valkey.url) as queue:
        for message in NO_MESSAGES:
            queue.lpush("interactive", message)
        for name, arguments, more in NOT_OURS:
            stranger.send_task(name, arguments, more, queue="interactive")
            stranger.send_task(name, arguments, more, queue="interactive", link=stranger.signature("canary"))
        stranger.send_task("operations.run", (Runs(tmp_path / "ran"),), queue="interactive", serializer="pickle")
        until(lambda: queue.llen("interactive") == 0 and not queue.hlen("unacked"), 60)
    make_environment(portal, Person(portal.url, portal.stage.alice.email, PASSWORD), "Afterwards")
    until(lambda: is_made("Afterwards"), 20)
    assert portal.processes["worker"] is worker
    assert worker.poll() is None, "it ended"
    assert not (tmp_path / "ran").exists()
    assert set(Operation.objects.exclude(title__contains="Afterwards").values_list("pk", "attempts")) == done
    printed = portal.logs()
    assert "canary" not in printed
    assert "FORGED" not in printed
