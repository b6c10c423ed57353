"""The hosted vault of a bench: a raft OpenBao with its audit log on, in a directory of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kmsportal.demo.directory import StackDirectory, open_place
from kmsportal.demo.servers import OpenBao
from tests.servers import free_port
from vaults.hosted.credentials import Credential, read_credentials


@dataclass(frozen=True)
class HostedVault:
    """The running vault, where it is, and the logins of web and worker: {identity: Credential}."""

    openbao: OpenBao
    place: StackDirectory
    logins: dict[str, Credential]


@contextmanager
def hosted_vault() -> Iterator[HostedVault]:
    """Started and laid out as the embedded stack does it; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        place = open_place(Path(directory), free_port())
        openbao = OpenBao(place, free_port(), free_port())
        openbao.first_start()
        try:
            openbao.make()
            files = [place.directory("credentials") / name for name in ("web", "worker")]
            logins = {name: one for file in files for name, one in read_credentials(file).identities.items()}
            yield HostedVault(openbao, place, logins)
        finally:
            openbao.child.ask_to_stop()
            openbao.child.stop()
