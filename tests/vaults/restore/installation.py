"""A whole installation in one directory, of processes only: its database, its raft vault, its portal; for the restore drill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accounts.keyring import KEYS_FILE, LIST_FILE, SigningKey, read_signing_keys, write_signing_keys
from kmsportal.demo.directory import StackDirectory, write_json
from kmsportal.demo.servers import OpenBao
from tests.keys import root_of
from tests.live import ROOT, LivePortal, start_portal
from tests.raft import RaftVault
from tests.servers import free_port
from vaults.hosted.credentials import HELD, Credentials, read_credentials, write_credentials
from vaults.hosted.layout import LAYOUT_VERSION


@dataclass
class Installation:
    """`ports` stay the same on another machine, because containers remember the addresses."""

    var: Path
    ports: dict[str, int]

    @property
    def database(self) -> Path:
        return self.var / "portal.sqlite3"

    def environment(self, credentials: str = "all") -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KMS_", "DJANGO_"))},
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "KMS_VAR": str(self.var),
            "KMS_PORT": str(self.ports["web"]),
            "KMS_PORTAL_URL": f"http://127.0.0.1:{self.ports['web']}",
            "KMS_DATABASE_URL": f"sqlite:///{self.database}",
            "KMS_VAULT_ADDR": f"http://127.0.0.1:{self.ports['openbao']}",
            "KMS_CREDENTIALS": str(self.var / "credentials" / credentials),
            "KMS_ROTATION_SETTLE_SECONDS": "0",
            **root_of(self.var / "credentials"),
        }

    def run(self, *words: str, credentials: str = "all", fails: bool = False) -> str:
        """A Python program of ours to its end; returns what it said."""
        environment = self.environment(credentials)
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def manage(self, *words: str, credentials: str = "all", fails: bool = False) -> str:
        return self.run("manage.py", *words, credentials=credentials, fails=fails)

    def step(self, name: str, **given: Any) -> dict[str, Any]:
        """One of tests/vaults/restore/drill.py."""
        said = self.run("-m", "tests.vaults.restore.drill", name, json.dumps(given))
        answer: dict[str, Any] = json.loads([line for line in said.splitlines() if line.startswith("{")][0])
        return answer

    def openbao(self) -> OpenBao:
        write_json(
            self.var / "ports.json", {name: self.ports[name] for name in ("openbao", "openbao_cluster", "valkey")}
        )
        return OpenBao(
            StackDirectory(self.var, self.ports["web"]), self.ports["openbao"], self.ports["openbao_cluster"]
        )

    @contextmanager
    def vault(self) -> Iterator[RaftVault]:
        """Its vault, running; made when there is none."""
        openbao = self.openbao()
        try:
            openbao.make() if openbao.first_start() else openbao.start()
            self.write_all()
            yield RaftVault(openbao, self.var)
        finally:
            openbao.child.ask_to_stop()
            openbao.child.stop()

    def write_all(self) -> None:
        """`all`, for steps that play every process: with everybody's identities and signing keys."""
        directory, every, keys = self.var / "credentials", {}, list[SigningKey]()
        (directory / "all").mkdir(mode=0o700, exist_ok=True)
        for name in HELD:
            every |= read_credentials(directory / name).identities
            keys += read_signing_keys(directory / name / KEYS_FILE)
        write_signing_keys(directory / "all" / KEYS_FILE, keys)
        shutil.copy2(directory / "web" / LIST_FILE, directory / "all" / LIST_FILE)
        write_credentials(directory / "all", Credentials(LAYOUT_VERSION, every))

    @contextmanager
    def portal(self, vault: RaftVault) -> Iterator[LivePortal]:
        directory = self.var / "portal"
        directory.mkdir(exist_ok=True)
        portal = start_portal(vault, f"sqlite:///{self.database}", directory, port=self.ports["web"])
        try:
            yield portal
        finally:
            portal.stop()

    def moved(self, var: Path, *, database: bool, vault: bool) -> Installation:
        """Another machine with some of this one's parts. Seal key and recovery key come with it: they are kept apart."""
        other = Installation(var, self.ports)
        (var / "openbao").mkdir(mode=0o700, parents=True)
        if database:
            for file in self.database.parent.glob(f"{self.database.name}*"):  # and what is still in its write-ahead log
                shutil.copy2(file, other.database.with_name(file.name))
        if vault:
            shutil.copytree(self.var / "openbao", var / "openbao", dirs_exist_ok=True)
            shutil.copytree(self.var / "credentials", var / "credentials")
        for name in ("seal.key", "recovery.key"):
            shutil.copy2(self.var / "openbao" / name, var / "openbao" / name)
        (var / "secrets").mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(self.var / "secrets" / "portal-root-key", var / "secrets" / "portal-root-key")
        return other


def new_installation(var: Path) -> Installation:
    var.mkdir(mode=0o700)
    return Installation(var, {name: free_port() for name in ("web", "openbao", "openbao_cluster", "valkey")})
