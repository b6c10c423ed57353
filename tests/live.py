"""The whole portal as its own processes, on the tests' database and hosted vault; and runtimes that talk to it."""

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from tests import guard
from tests.keys import root_of
from tests.servers import Valkey, _answers, free_port, start_valkey

WORKING = ("worker", "watch")
ROOT = Path(__file__).resolve().parent.parent
running: "list[LivePortal]" = []  # the one that lives as long as the test session and works on the tests' own database


@dataclass
class LivePortal:
    """A running portal. `stage` is the scene of the present test, `runtimes` closes what the test started."""

    url: str
    vault_address: str
    directory: Path
    environment: dict[str, str] = field(repr=False)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    valkey: Valkey | None = None
    stage: Any = None
    runtimes: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self, name: str, application: str = "kmsportal.wsgi:application") -> None:
        """Start web or worker (again)."""
        commands = {
            "web": [
                *("gunicorn", application, "--bind", self.url.removeprefix("http://")),
                *("--worker-class", "gthread", "--threads", "8", "--workers", "1", "--log-level", "warning"),
            ],
            "worker": [*("celery", "-A", "kmsportal", "worker", "-Q", "interactive,bulk", "-c", "1", "-l", "WARNING")],
            "watch": [*("django", "watch")],
        }
        environment = self.environment | {"KMS_CREDENTIALS": f"{self.environment['CREDENTIALS']}/{name}"}
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *commands[name]],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """kill -9, children included."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()

    def work(self) -> None:
        """Have a worker and the watch."""
        for name in WORKING:
            if name not in self.processes:
                self.start(name)

    def rest(self) -> None:
        """Have none: other tests work on the same database, and do themselves what is due."""
        for name in WORKING:
            if name in self.processes:
                self.kill(name)

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 30
        while not _answers(f"{self.url}/live"):
            if time.monotonic() > deadline or self.processes["web"].poll() is not None:
                raise RuntimeError((self.directory / "web.log").read_text()[-3000:])
            time.sleep(0.05)

    def forbidden_connections(self) -> str:
        """What the processes tried to reach beyond their operator's addresses (tests/guard.py)."""
        report = self.directory / "guard"
        return report.read_text() if report.exists() else ""

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.directory.glob("*.log"))

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        if self.valkey is not None:
            self.valkey.stop()


def start_portal(vault: Any, database: str, directory: Path, port: int = 0) -> LivePortal:
    """Start Valkey, web, worker and watch; returns when web answers."""
    port = port or free_port()
    valkey = start_valkey()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("KMS_", "DJANGO_"))},
        "DJANGO_SETTINGS_MODULE": "tests.settings",  # for the quick password hashes of the cast
        "KMS_MODE": "development",
        "KMS_LOG_LEVEL": "INFO",
        "KMS_MFA_REQUIRED": "0",
        "KMS_ATOM_REQUESTS_PER_SECOND": "1000",  # some tests ask without end
        "KMS_VAR": str(directory),
        "KMS_PORT": str(port),
        "KMS_STATE": str(settings.STATE),  # one machine: what one process saw, all remember
        "KMS_PORTAL_URL": f"http://127.0.0.1:{port}",
        "KMS_DATABASE_URL": database,
        "KMS_REDIS_URL": valkey.url,
        "KMS_VAULT_ADDR": vault.address,
        "KMS_EMAIL_URL": f"filemail:///{directory}/mail",
        "KMS_RUNTIME_WHEELS": str(directory / "wheels"),
        "CREDENTIALS": str(vault.credentials),
        **root_of(vault.credentials),
        guard.REPORT: str(directory / "guard"),
    }
    portal = LivePortal(f"http://127.0.0.1:{port}", vault.address, directory, environment, valkey=valkey)
    for name in ("web", *WORKING):
        portal.start(name)
    portal.wait_until_up()
    return portal
