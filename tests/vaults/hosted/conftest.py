"""A hosted vault as the tests of this room see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kmscore.vaultclient.client import Vault
from tests.servers import start_openbao
from tests.vaults.hosted.cast import Cast, make_cast


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    server = start_openbao()
    yield make_cast(server)
    server.stop()


@pytest.fixture
def bare() -> Iterator[Vault]:
    server = start_openbao()
    yield Vault(server.address, token=server.root_token)
    server.stop()
