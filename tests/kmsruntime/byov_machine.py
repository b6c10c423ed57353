"""A container whose Atom is to use the customer's vault, and what the tests ask of the two."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoms.models import Atom
from kmscore.byov.customer import CustomerVault, Lifecycle, key_name
from kmscore.vaultclient.answers import VaultError
from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from kmsruntime.disk.credentials import VaultLogin
from kmsruntime.store.format import Header
from tests.customer import CustomersVault
from tests.kmsruntime.container import Container, bring_your_own_vault
from vaults.models import ContainerReport

HELD = "pa55word-canary"  # what the fixture `held` saved as a password


@dataclass
class Byov:
    """One container and the vault of its Atom's owner. `token`: the one that the newest file names."""

    container: Container
    customer: CustomersVault
    atom: Atom
    token: str = field(default="", repr=False)

    @property
    def key(self) -> str:
        return key_name(self.container.stage.account.code, str(self.atom.pk))

    @property
    def environment(self) -> dict[str, str]:
        return self.container.environment(VAULT_CACERT=str(self.customer.ca))

    # -- the customer's vault and the panel ------------------------------------------------------------------------

    def file(self, customer: CustomersVault | None = None, **options: Any) -> CustomerVault:
        """A file with a token of its own. options: of CustomerVault; a token given is used as it is."""
        customer = customer or self.customer
        customer.make_key(self.key)
        token = options.pop("token", "") or customer.make_token(self.key)
        return CustomerVault(customer.address, token, customer.namespace, **options)

    def turn_on(self, *, wrapped: bool = False, file: CustomerVault | None = None) -> int:
        """Save Bring Your Own Vault. Returns the settings' revision."""
        file = file or self.file()
        self.token = file.token
        return bring_your_own_vault(self.container.stage, self.atom, file, wrapped=wrapped)

    def turn_off(self) -> int:
        return bring_your_own_vault(self.container.stage, self.atom, None)

    def rotate(self) -> None:
        self.customer.root.call("POST", f"transit/keys/{self.key}/rotate", {})

    # -- what became of it -----------------------------------------------------------------------------------------

    def get(self, field_id: str = "password") -> str:
        """By the command line, as a program would."""
        done = self.container.command("get", "Orders database", field_id, env=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def header(self) -> Header:
        found = self.container.synchroniser().sealed_state.header()
        assert found is not None
        return found

    def report(self) -> ContainerReport:
        token = credentials.read_atom(self.container.home).node
        return ContainerReport.objects.get(node=token)

    def is_sealed_for(self, revision: int, *, mode: str, wrapped: bool = False, values: int | None = None) -> bool:
        """Store and portal say the same: the vault, its key, the settings; asserts so and is True."""
        header, report = self.header(), self.report()
        assert (header.source, header.memory_only, header.settings_revision) == (mode, wrapped, revision)
        if header.key_id:
            assert header.key_name == (self.key if mode == "byov" else str(self.atom.pk))
        assert (report.source, report.wrapped, report.settings_revision) == (mode, wrapped, revision)
        assert (report.key_name, report.key_version) == (header.key_name, header.key_version)
        assert values is None or report.values == values
        files = list(self.container.directory.glob("at-rest-key.*"))
        assert len(files) == (1 if header.key_id and not wrapped else 0)
        return True

    def failed_step(self) -> tuple[str, str] | None:
        """(step, code) of the step that the portal shows as failed."""
        return next(((one["step"], one["code"]) for one in self.report().preflight if one["state"] == "failed"), None)


# -- the disk ----------------------------------------------------------------------------------------------------------


def secrets_of(container: Container) -> dict[str, bytes]:
    """What must not lie on a wrapped container's disk, by name, as it is in use now."""
    holding = container.synchroniser().sealed_state
    half, held = holding.environment(), holding.store()
    found = {"sync credential": half.sync_token.encode()}
    if half.login is not None:
        found |= {"role_id": half.login.role_id.encode(), "secret_id": half.login.secret_id.encode()}
    if held is not None and held.key:
        found["at-rest key"] = held.key
    return found


def spellings(secret: bytes) -> set[bytes]:
    """Raw, hexadecimal and base64 of every alphabet; without the padding."""
    plain, safe = base64.b64encode(secret), base64.urlsafe_b64encode(secret)
    hexadecimal = secret.hex().encode()
    return {secret, hexadecimal, hexadecimal.upper(), plain.rstrip(b"="), safe.rstrip(b"=")}


def lying_open(directory: Path, secrets: dict[str, bytes]) -> list[str]:
    """Which file shows which secret: "secret_id in environment.json"."""
    contents = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    return [
        f"{name} in {path.name}"
        for name, secret in secrets.items()
        for path, content in contents.items()
        if any(text in content for text in spellings(secret))
    ]


def assert_clean(container: Container, *earlier: dict[str, bytes]) -> None:
    """No secret of now or of earlier lies on the disk; the file that held them in the clear is gone."""
    for secrets in (secrets_of(container), *earlier):
        assert lying_open(container.directory, secrets) == []
    assert not container.home.environment.exists()
    assert not list(container.directory.glob("at-rest-key.*"))
    assert not list(container.directory.glob(".*.new"))


def logs_in(container: Container, login: VaultLogin) -> bool:
    """Whether the hosted vault still lets this login in."""
    try:
        Vault(container.portal.vault_address).login(login.mount, login.role_id, login.secret_id)
    except VaultError:
        return False
    return True


def unseal(customer: CustomersVault) -> None:
    """With the key that OpenBao's dev mode writes to its log."""
    key = re.search(r"Unseal Key: (\S+)", (customer.directory / "log").read_text())
    assert key is not None
    assert customer.top.call("PUT", "sys/unseal", {"key": key[1]})["sealed"] is False


QUICK = Lifecycle(True, 2.0, 1.0)  # for tokens that live for seconds
