"""run: keeps up, backs off, stops cleanly, is alone, and survives kill -9."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from kmscore.byov.customer import Lifecycle
from kmscore.vaultclient.client import Vault
from kmsruntime.daemon import STOP_SECONDS, Daemon
from kmsruntime.disk.home import Home
from kmsruntime.keysource.token_renewer import TokenRenewer
from kmsruntime.keysource.token_session import TokenSession
from kmsruntime.store.format import Header
from tests.kmscore.byov.situations import lying
from tests.kmsruntime.container import Container, save
from tests.live import ROOT
from tests.servers import free_port
from vaults.models import ContainerReport

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(enrolled: Container) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(poll: str = "0.5") -> subprocess.Popen[str]:
            words = enrolled.words("run", "--poll", poll)
            process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=enrolled.environment())
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield run


def until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def held(container: Container, value: str) -> Callable[[], bool]:
    return lambda: container.home.store.exists() and container.values().get("Orders database/password") == value


def test_it_fetches_what_is_saved_and_stops_when_told(enrolled: Container, start: Start) -> None:
    save(enrolled.stage, password="one")
    process = start()
    until(held(enrolled, "one"))
    save(enrolled.stage, password="two")
    until(held(enrolled, "two"))
    until(lambda: ContainerReport.objects.filter(revision=2, verdict="ok").exists())
    process.send_signal(signal.SIGTERM)
    lines = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 0
    assert lines[-1].endswith("kms-runtime: Stopped.")
    assert all("one" not in line.split() and "two" not in line.split() for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_at_once_while_waiting(enrolled: Container, start: Start, number: int) -> None:
    process = start(poll="600")
    until(lambda: enrolled.home.store.exists())
    process.send_signal(number)
    assert process.wait(60) == 0


def test_it_stops_soon_while_the_vault_answers_in_drops(enrolled: Container, start: Start) -> None:
    """A call made beside others too: of a new data key, while the delivery is opened."""
    reached = threading.Event()

    def slowly(body: bytes) -> bytes:
        reached.set()
        time.sleep(20)
        return body

    save(enrolled.stage, password="one")
    config = enrolled.home.read_config()
    with lying(config.vault, "atrest/datakey", slowly) as address:
        enrolled.home.write_config(replace(config, vault=address))
        process = start()
        assert reached.wait(30)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - began < STOP_SECONDS + 1.5


def test_a_second_one_is_refused_and_a_manual_sync_is_not(enrolled: Container, start: Start) -> None:
    start()
    until(lambda: enrolled.home.store.exists())
    second = enrolled.command("run")
    assert (second.returncode, "[busy]" in second.stderr) == (78, True)
    assert enrolled.command("sync").returncode == 0


def test_kill_9_loses_nothing(enrolled: Container, start: Start) -> None:
    save(enrolled.stage, password="zero")
    for number in range(4):
        process = start()
        until(lambda: enrolled.home.store.exists())
        save(enrolled.stage, password=f"value {number}")
        time.sleep(0.2 * number)
        process.kill()
        process.wait()
        assert enrolled.values()["Orders database/password"]
    enrolled.sync()
    assert enrolled.values()["Orders database/password"] == "value 3"
    assert len(list(enrolled.directory.glob("at-rest-key.*"))) == 1


def test_trouble_is_said_once_and_so_is_its_end(enrolled: Container, start: Start) -> None:
    from dataclasses import replace

    config = enrolled.home.read_config()
    enrolled.home.write_config(replace(config, portal=f"http://127.0.0.1:{free_port()}"))
    process = start()
    until(lambda: enrolled.status()["verdict"] == "portal_unreachable")
    enrolled.after_more_syncs()
    process.send_signal(signal.SIGTERM)
    lines = process.communicate(timeout=60)[1].splitlines()
    assert [line.rsplit("[", 1)[-1] for line in lines if "[" in line] == ["portal_unreachable]"]


class Broken:
    """Fails in a way that nobody foresaw."""

    def sync(self) -> None:
        raise OverflowError("canary-value")

    def customer(self, revision: int) -> None:
        raise OverflowError("canary-value")


def test_an_unforeseen_exception_is_one_line_without_its_text_and_a_failure() -> None:
    lines: list[str] = []
    daemon = Daemon(Home(Path("/nonexistent")), lines.append)
    for _ in range(3):
        daemon._sync(Broken())  # type: ignore[arg-type]
    assert daemon._failures == 3
    assert len(lines) == 1
    assert re.fullmatch(r"Something .* \(OverflowError in test_daemon\.py:\d+\); please .* \[unexpected\]", lines[0])


def test_looking_at_the_token_raises_nothing() -> None:
    lines: list[str] = []
    renewer = TokenRenewer(Broken(), lines.append)  # type: ignore[arg-type]
    assert renewer.look(Header("acme-X1", "atom", source="byov", settings_revision=2)) is False
    assert renewer.look(Header("acme-X1", "atom", source="byov", settings_revision=2)) is False
    assert (len(lines), "OverflowError in test_daemon.py" in lines[0], "canary" in lines[0]) == (1, True, False)
    assert renewer.is_watching is False


class Lasting(TokenSession):
    """A session that is due at once or in so long, and ends its thread if told so, as nothing foreseen does."""

    def __init__(self, seconds: float, *, deadly: bool = False) -> None:
        super().__init__(Vault("http://127.0.0.1:1"), Lifecycle())
        self.seconds, self.deadly, self.renewed = seconds, deadly, threading.Event()

    def seconds_left(self, now: float) -> float:
        return self.seconds

    def renew(self) -> None:
        self.seconds = 1e9
        if self.deadly:
            raise SystemExit
        self.renewed.set()


BYOV = Header("acme-X1", "atom", source="byov", settings_revision=2)


@pytest.mark.parametrize("seconds", [1e13, math.inf, math.nan])
def test_no_wait_ends_the_renewal(seconds: float) -> None:
    lines: list[str] = []
    with TokenRenewer(Broken(), lines.append) as renewer:  # type: ignore[arg-type]
        renewer._hand_over(Lasting(seconds))
        time.sleep(0.2)
        later = Lasting(0)
        renewer._hand_over(later)
        assert later.renewed.wait(5)


class Withdrawn:
    """Sources of which no revision has a vault of the customer's any more."""

    def customer(self, revision: int) -> None:
        return None


def test_other_settings_are_not_told_what_the_token_before_met() -> None:
    lines: list[str] = []
    with TokenRenewer(Withdrawn(), lines.append) as renewer:  # type: ignore[arg-type]
        assert renewer.look(BYOV) is False
        before = Lasting(0)
        before.problem = "token_invalid"
        renewer._hand_over(before)
        until(lambda: renewer._found is not None)
        assert renewer.look(replace(BYOV, settings_revision=3)) is False
    assert lines == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_renewal_that_ended_is_started_again_and_said_once() -> None:
    lines: list[str] = []
    with TokenRenewer(Broken(), lines.append) as renewer:  # type: ignore[arg-type]
        for _ in range(2):
            assert renewer._thread is not None
            renewer._hand_over(Lasting(0, deadly=True))
            renewer._thread.join(5)
            assert renewer.look(BYOV) is False
            later = Lasting(0)
            renewer._hand_over(later)
            assert later.renewed.wait(5)
    assert len(lines) == 1
    assert "had ended" in lines[0]
    assert renewer._thread is not None
    assert not renewer._thread.is_alive()


def test_the_pause_grows_to_five_minutes_and_is_spread() -> None:
    daemon = Daemon(Home(Path("/nonexistent")), lambda line: None)
    pauses = []
    for failures in range(12):
        daemon._failures = failures
        pauses.append([daemon._pause() for _ in range(50)])
    base = [5, 5, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300]
    for expected, found in zip(base, pauses, strict=True):
        assert all(0.8 * expected <= pause <= 1.2 * expected for pause in found)
        assert max(found) - min(found) > 0.1 * expected
