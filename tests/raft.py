"""A hosted vault as in production: raft storage, sealed, a declared audit file, no root token left. Slower than dev mode."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmsportal.demo.directory import StackDirectory
from kmsportal.demo.servers import OpenBao
from tests.keys import write_development_keys
from tests.servers import free_port
from vaults.hosted.credentials import HELD, Credentials, read_credentials, write_credentials
from vaults.hosted.layout import LAYOUT_VERSION


@dataclass
class RaftVault:
    """`credentials` holds the files of the portal's processes, and `all` for tests that play every process."""

    openbao: OpenBao
    directory: Path

    @property
    def address(self) -> str:
        return self.openbao.address

    @property
    def credentials(self) -> Path:
        return self.directory / "credentials"

    @property
    def pid(self) -> int:
        assert self.openbao.child.pid is not None
        return self.openbao.child.pid

    @property
    def audit_log(self) -> Path:
        return self.openbao.directory / "audit.log"

    def audited(self, since: int = 0) -> list[dict[str, Any]]:
        """What the vault answered, from a position of its audit log on."""
        with self.audit_log.open("rb") as log:
            log.seek(since)
            lines = log.read().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["type"] == "response"]


@contextmanager
def raft_vault(directory: Path) -> Iterator[RaftVault]:
    place = StackDirectory(directory, free_port())
    openbao = OpenBao(place, free_port(), free_port())
    openbao.first_start()
    try:
        openbao.make()
        vault = RaftVault(openbao, directory)
        every = {}
        (vault.credentials / "portal-root").unlink()  # this process signs with development's keys
        for name in (*HELD, "all"):
            write_development_keys(vault.credentials / name)
        for name in HELD:
            every |= read_credentials(vault.credentials / name).identities
        write_credentials(vault.credentials / "all", Credentials(LAYOUT_VERSION, every))
        yield vault
    finally:
        openbao.child.ask_to_stop()
        openbao.child.stop()
