"""The whole story on real servers: from signing in to a program that logs in to PostgreSQL with the value typed."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import steps
from tests.conftest import PASSWORD
from tests.live import ROOT, LivePortal
from tests.servers import Postgres, start_postgres

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser, pytest.mark.slow]
FIELDS = [("host", "Host", False), ("port", "Port", False), ("user", "User", False), ("password", "Password", True)]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def wheel(live_processes: LivePortal) -> Path:
    """The runtime's wheel, built where the portal serves it from."""
    directory = live_processes.directory / "wheels"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(directory.glob("kmsportal_runtime-*.whl"))


@dataclass
class Machine:
    """The customer's container: a fresh directory and a shell that knows nothing of this checkout."""

    directory: Path

    def environment(self) -> dict[str, str]:
        ours = ("KMS_", "DJANGO_", "PYTHON", "VIRTUAL_ENV", "PG")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def bash(self, lines: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=self.directory,
            env=self.environment(),
            input=typed,
            text=True,
            capture_output=True,
            timeout=240,
            check=False,
        )

    @contextmanager
    def running(self, line: str) -> Iterator[Path]:
        """The line runs in the background, as a service would; gives its log."""
        log = self.directory / "run.log"
        with log.open("wb") as output:
            daemon = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield log
        finally:
            daemon.terminate()
            ended = daemon.wait(20)
        assert ended == 0, log.read_text()


def current_user(machine: Machine, enrol_line: str) -> subprocess.CompletedProcess[str]:
    """psql asks the server who it is, with nothing but what `exec` gives it."""
    program = re.match(r"\S+ ", enrol_line)
    store = re.search(r"--dir (\S+)", enrol_line)
    assert program is not None
    assert store is not None
    given = " ".join(f"--map PG{name.upper()}=Warehouse/{name}" for name, _, _ in FIELDS)
    psql = "psql -w -d postgres -Atc 'select current_user'"
    return machine.bash(f"{program[0]} exec --dir {store[1]} {given} -- {psql}")


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 40
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def the_lines(page: Page) -> dict[str, str]:
    return {name: page.locator(f"#line-{name}").inner_text() for name in ("install", "enrol", "run")}


def test_a_password_typed_in_the_browser_logs_a_program_in(
    portal: LivePortal, wheel: Path, postgres: Postgres, browser: Browser, tmp_path: Path
) -> None:
    stage, machine = portal.stage, Machine(tmp_path)
    account = f"{portal.url}/accounts/{stage.account.code}/"
    page = browser.new_page()
    steps.sign_in(page, portal.url, stage.alice.email, PASSWORD)
    steps.create_connection(page, account, "Warehouse", FIELDS)
    steps.create_environment(page, account, "Story")
    steps.create_atom(page, account, "Story Atom", "Story")
    atom = steps.atom_address(page)

    watching = browser.new_context().new_page()
    steps.sign_in(watching, portal.url, stage.alice.email, PASSWORD)
    watching.goto(f"{atom}kms/")
    watching.evaluate("window.neverReloaded = true")

    token = steps.installer_token(page)
    lines = the_lines(page)
    installed = machine.bash(lines["install"])
    assert installed.returncode == 0, installed.stderr
    enrolled = machine.bash(lines["enrol"], typed=token + "\n")
    assert enrolled.returncode == 0, enrolled.stderr
    assert "Story Atom" in enrolled.stderr
    again = machine.bash(lines["enrol"].replace("-store", "-other"), typed=token + "\n")
    assert "[installer_token_spent]" in again.stderr

    with machine.running(lines["run"]) as log:
        page.goto(f"{atom}kms/")
        page.get_by_role("link", name="Environment Extensions").first.click()
        warehouse = steps.choose_connection(page, "Warehouse")
        for label, value in (("Host", "127.0.0.1"), ("Port", str(postgres.port)), ("User", postgres.user)):
            steps.type_plain(warehouse, label, value)
        steps.type_secret(warehouse, "Password", postgres.password + "x")
        steps.save_extensions(page)
        wait_for(log, "Took revision 1 of Story")
        refused = current_user(machine, lines["enrol"])
        assert refused.returncode == 2
        assert 'password authentication failed for user "owner"' in refused.stderr
        expect(watching.locator("#kms-panel")).to_contain_text("revision 1", timeout=15_000)

        steps.type_secret(warehouse, "Password", postgres.password)
        steps.save_extensions(page)
        wait_for(log, "Took revision 2 of Story")
        reported = time.monotonic()
        expect(watching.locator("#kms-panel table")).to_contain_text("revision 2", timeout=15_000)
        assert time.monotonic() - reported < 7
        accepted = current_user(machine, lines["enrol"])
        assert (accepted.returncode, accepted.stdout) == (0, "owner\n"), accepted.stderr

    expect(watching.locator("#kms-panel")).to_contain_text("Sealed")
    assert watching.evaluate("window.neverReloaded") is True
    assert postgres.password not in page.content() + watching.content()
    assert postgres.password not in portal.logs() + log.read_text()
