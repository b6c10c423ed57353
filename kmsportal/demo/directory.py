"""Where a stack keeps its files: one directory (VAR), mode 0700, so that two stacks can run side by side."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from kmscore.durable import write_durably

ROOT: Final = Path(__file__).resolve().parents[2]  # the checkout
SPACE_NEEDED: Final = 200 * 1024 * 1024  # bytes: the vault's storage takes 33 MB at once and grows
# Below the range from which systems hand out outgoing ports, so that a remembered port stays free.
PORTS: Final = range(20_000, 30_000)
DEMO_FORMAT: Final = 3  # of demo.json, and of the data beside it


class DemoError(Exception):
    """Something that keeps the stack from running: one sentence on what, one on how to go on."""

    def __init__(self, what: str, way_on: str) -> None:
        super().__init__(f"{what} {way_on}")


@dataclass(frozen=True, slots=True)
class StackDirectory:
    """The files of one stack and the web server's port."""

    var: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def database(self) -> Path:
        return self.var / "portal.sqlite3"

    @property
    def demo_file(self) -> Path:
        return self.var / "demo.json"

    @property
    def root_key(self) -> Path:
        return self.directory("secrets") / "portal-root-key"

    @property
    def portal_root(self) -> str:
        """The public half of the root key. Raises OSError before the vault was made."""
        return (self.var / "credentials" / "portal-root").read_text().strip()

    def directory(self, name: str) -> Path:
        """One of the stack's own directories: secrets, credentials, state, openbao, valkey, logs, run, runtime, wheels."""
        path = self.var / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def secret(self, name: str, *, replaceable: bool = False) -> Path:
        """The file of a random secret (43 characters), made at first use.

        One that is not replaceable is never made anew beside existing data. Raises DemoError.
        """
        path = self.directory("secrets") / name
        if path.exists():
            return path
        if self.database.exists() and not replaceable:
            raise DemoError(f"{path} is gone, and the data needs it.", "Put it back from a backup, or use another VAR.")
        write_durably(path, secrets.token_urlsafe(32).encode())
        return path


def open_place(var: Path, port: int) -> StackDirectory:
    """Make VAR, private, and see that it can be used. Raises DemoError."""
    place = StackDirectory(var.absolute(), port)
    try:
        place.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place.var):
            pass
        free = shutil.disk_usage(place.var).free
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise no_space(place.var) from None
        raise DemoError(
            f"{place.var} cannot be used: {error.strerror}.", "Set VAR to a directory of your own."
        ) from None
    if free < SPACE_NEEDED:
        raise no_space(place.var)
    _refuse_earlier_form(place)
    return place


def _refuse_earlier_form(place: StackDirectory) -> None:
    """Its rows bear no signature where these are looked at, and no migration signs anything."""
    with suppress(OSError, ValueError, AttributeError):
        if json.loads(place.demo_file.read_text()).get("format") != DEMO_FORMAT:
            raise DemoError(
                f"{place.var} was made by an earlier version of the portal.",
                "Use another VAR, or remove it: it is demo data.",
            )


def no_space(var: Path) -> DemoError:
    megabytes = SPACE_NEEDED // (1024 * 1024)
    return DemoError(
        f"There is no space left at {var}.", f"Free {megabytes} MB, or set VAR to another disk, and start again."
    )


def lock(place: StackDirectory) -> IO[str]:
    """Hold VAR for this process; the system lets go when it ends, however it ends. Raises DemoError."""
    file = (place.directory("run") / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DemoError(
            f"A stack is running in {place.var} already (process {owner}).",
            "Stop it, or set VAR and PORT for a second one.",
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def check_web_port(port: int) -> None:
    """Raises DemoError when the web server's port cannot be had."""
    if not 1 <= port <= 65535:
        raise DemoError(f"{port} is not a port.", "Set PORT to a number from 1024 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise DemoError(f"Port {port} is reserved for the system.", "Choose another: make run PORT=8001.") from None
        except OSError:
            raise DemoError(
                f"Port {port} is in use by another program.", f"Stop it, or choose another: make run PORT={port + 1}."
            ) from None


def inner_ports(place: StackDirectory) -> dict[str, int]:
    """The loopback ports of OpenBao (and its cluster listener) and Valkey: chosen once, then kept.

    They are kept because the demo runtime remembers the vault's address. Raises DemoError when one is taken.
    """
    file = place.var / "ports.json"
    try:
        ports = {name: int(port) for name, port in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        ports = dict(zip(("openbao", "openbao_cluster", "valkey"), _free_ports(3), strict=True))
        write_json(file, ports)
    except ValueError:
        raise DemoError(f"{file} cannot be read.", "Delete it: new ports will be chosen.") from None
    for name, port in ports.items():
        if not _is_free(port):
            raise DemoError(
                f"Port {port}, which {name} of this stack uses, is taken by another program.",
                f"Stop it, or delete {file}: new ports will be chosen.",
            )
    return ports


def _free_ports(count: int) -> list[int]:
    free: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if _is_free(port):
            free.append(port)
        if len(free) == count:
            return free
    raise DemoError("No loopback port is free.", "Stop some other programs and start again.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def write_json(path: Path, document: Any) -> None:
    write_durably(path, json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
