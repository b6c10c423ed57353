"""A process renews its own credentials, with no root token and before they are missed; what goes wrong is told by name."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hvac import Client

from kmscore.vaultclient.client import Vault
from tests.servers import OpenBao, start_openbao
from vaults.hosted import layout, renewal
from vaults.hosted.credentials import (
    IDENTITIES_FILE,
    LIFE,
    Credential,
    Credentials,
    install_credentials,
    log_in,
    read_credentials,
    still_good,
    write_credentials,
)
from vaults.hosted.hvac_client import client_of


@pytest.fixture(scope="module")
def server() -> Iterator[OpenBao]:
    running = start_openbao()
    layout.install(client_of(Vault(running.address, token=running.root_token)))
    yield running
    running.stop()


@pytest.fixture
def directory(server: OpenBao, tmp_path: Path) -> Path:
    """Of a worker, installed so long ago that less than half of their life is left."""
    made = tmp_path / "worker"
    made.mkdir(mode=0o700)
    install_credentials(client_of(Vault(server.address, token=server.root_token)), made)
    aged(made, LIFE / 2 - timedelta(minutes=1))
    return made


def aged(directory: Path, left: timedelta) -> None:
    held = read_credentials(directory)
    ends = datetime.now(UTC) + left
    aged = {name: replace(one, expires=ends) for name, one in held.identities.items()}
    write_credentials(directory, Credentials(held.layout, aged))


def renew(server: OpenBao, directory: Path) -> renewal.Look:
    def as_identity(name: str, call: Callable[[Client], Any]) -> Any:
        client = client_of(Vault(server.address))
        log_in(client, read_credentials(directory).identities[name])
        return call(client)

    return renewal.renew(directory, as_identity)


def secret_ids(directory: Path) -> dict[str, str]:
    return {name: one.secret_id for name, one in read_credentials(directory).identities.items()}


def works(server: OpenBao, credential: Credential) -> bool:
    return still_good(client_of(Vault(server.address)), credential)


def test_what_has_less_than_half_of_its_life_left_is_renewed(server: OpenBao, directory: Path) -> None:
    before = read_credentials(directory)
    found = renew(server, directory)
    after = read_credentials(directory)
    assert (found.process, found.trouble) == ("worker", "")
    assert found.days == LIFE.days - 1
    for name, one in after.identities.items():
        assert one.secret_id != before.identities[name].secret_id
        assert one.role_id == before.identities[name].role_id
        assert works(server, one)
    assert stat.S_IMODE((directory / IDENTITIES_FILE).stat().st_mode) == 0o600


def test_the_present_one_stays_valid(server: OpenBao, directory: Path) -> None:
    """Another process read it a moment ago, or holds a copy of the file."""
    before = read_credentials(directory)
    renew(server, directory)
    for one in before.identities.values():
        log_in(client_of(Vault(server.address)), one)


def test_what_has_more_is_left_alone(server: OpenBao, directory: Path) -> None:
    aged(directory, LIFE / 2 + timedelta(hours=1))
    before = secret_ids(directory)
    renew(server, directory)
    assert secret_ids(directory) == before


def test_it_goes_on_from_one_to_the_next(server: OpenBao, directory: Path) -> None:
    """Years without a root token: each is made by the one before."""
    seen = {secret_ids(directory)["rotator"]}
    for _ in range(3):
        renew(server, directory)
        seen.add(secret_ids(directory)["rotator"])
        aged(directory, LIFE / 4)
    assert len(seen) == 4


def test_the_processes_of_one_file_renew_it_once(server: OpenBao, directory: Path) -> None:
    before, together = listed(server), threading.Barrier(4)

    def one() -> None:
        together.wait()
        renew(server, directory)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listed(server)) == len(before) + 1


def listed(server: OpenBao) -> list[str]:
    root = client_of(Vault(server.address, token=server.root_token))
    found = root.auth.approle.list_secret_id_accessors("provisioner", mount_point="platform")
    return list(found["data"]["keys"])


def test_a_change_of_role_ids_that_is_on_its_way_is_left_alone(server: OpenBao, directory: Path) -> None:
    held = read_credentials(directory)
    under_way = {name: replace(one, next_role_id="next") for name, one in held.identities.items()}
    write_credentials(directory, Credentials(held.layout, under_way))
    renew(server, directory)
    assert read_credentials(directory).identities == under_way


def test_a_file_that_others_can_read_is_told_by_name(server: OpenBao, directory: Path) -> None:
    (directory / IDENTITIES_FILE).chmod(0o644)
    found = renew(server, directory)
    assert found.expires is None
    assert found.days == 0
    assert str(directory / IDENTITIES_FILE) in found.trouble
    assert "mode 0600" in found.trouble


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it wants")
def test_a_directory_that_cannot_be_written_is_told_by_name(server: OpenBao, directory: Path) -> None:
    directory.chmod(0o500)
    before = secret_ids(directory)
    found = renew(server, directory)
    directory.chmod(0o700)
    assert str(directory) in found.trouble
    assert found.days > 0
    assert secret_ids(directory) == before


def test_a_vault_that_is_away_is_told_and_costs_nothing(server: OpenBao, directory: Path) -> None:
    before = secret_ids(directory)

    def away(name: str, call: Callable[[Client], Any]) -> Any:
        client = client_of(Vault("http://127.0.0.1:9"))
        return call(client)

    found = renewal.renew(directory, away)
    assert "not renewed" in found.trouble
    assert found.days > 0
    assert secret_ids(directory) == before
