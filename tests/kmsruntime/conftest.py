"""Containers for the runtime's tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from atoms.models import Atom
from tests.customer import CustomersVault, start_customers_vault
from tests.kmsruntime.byov_machine import HELD, Byov
from tests.kmsruntime.container import Container, save
from tests.live import LivePortal


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory where everybody may go; not below pytest's own, which every pytest that starts closes to others."""
    mask = os.umask(0o022)
    with TemporaryDirectory() as name:
        found = Path(name).resolve()
        found.chmod(0o755)
        yield found
    os.umask(mask)


@pytest.fixture(scope="module")
def customers_vault() -> Iterator[CustomersVault]:
    """The customer's own server, with TLS and in a namespace."""
    server = start_customers_vault()
    yield server
    server.stop()


Enrolled = Callable[..., Container]


@pytest.fixture
def container(portal: LivePortal, tmp_path: Path) -> Container:
    """A machine that is not enrolled yet."""
    return Container(portal, tmp_path / "container")


@pytest.fixture
def enrolled(container: Container) -> Container:
    """A node of the stage's first Atom, with nothing fetched yet."""
    return container.enrol()


@pytest.fixture
def another(portal: LivePortal, tmp_path: Path) -> Enrolled:
    """Makes more enrolled machines: `another("name", atom)`."""

    def make(name: str, atom: Atom | None = None) -> Container:
        return Container(portal, tmp_path / name).enrol(atom)

    return make


@pytest.fixture
def own_vault() -> Iterator[CustomersVault]:
    """A customer's vault of this test alone, to be stopped, sealed or lost."""
    server = start_customers_vault()
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.stop()


@pytest.fixture
def byov(enrolled: Container, customers_vault: CustomersVault, monkeypatch: pytest.MonkeyPatch) -> Byov:
    """An enrolled container with nothing fetched yet; this process trusts the customer's CA as the container does."""
    monkeypatch.setenv("VAULT_CACERT", str(customers_vault.ca))
    return Byov(enrolled, customers_vault, enrolled.stage.atom)


@pytest.fixture
def held(byov: Byov) -> Byov:
    """The same with a value, sealed with the hosted vault."""
    save(byov.container.stage, password=HELD)
    byov.container.sync()
    return byov
