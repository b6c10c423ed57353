"""Which vault makes the at-rest data keys, by the revision of the KMS settings: the hosted one, or the customer's own.

Clients and what was opened are kept for as long as this object lives, so that a daemon resolves and connects once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from kmscore.byov.customer import CustomerVault, key_name
from kmscore.byov.preflight import refused, run, verdict
from kmscore.byov.verdicts import Explanation, Step, explain
from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from kmsruntime.disk.credentials import AtomCredentials
from kmsruntime.disk.home import Home
from kmsruntime.errors import CustomerVaultMisconfigured
from kmsruntime.keysource.customer import CustomerKeys
from kmsruntime.keysource.hosted import HostedKeys
from kmsruntime.keysource.placeholders import LocalEnvironment, Resolved, Unresolved, resolve
from kmsruntime.keysource.settings import SettingsCache
from kmsruntime.keysource.transport import ConnectionSettingsInvalid, CustomerTransport
from kmsruntime.store.keys import KeySource


class Words(TypedDict):
    key: str
    namespace: str
    uri: str
    wrapped: bool


@dataclass(frozen=True, slots=True)
class CustomerVaultClient:
    """A customer's vault as one revision of the settings names it: resolved, or why it cannot be."""

    file: CustomerVault
    resolved: Resolved | None
    problem: Unresolved | None
    key: str
    wrapped: bool

    def explained(self, step: Step) -> Explanation:
        """Title, sentence and command of a step of the preflight."""
        return explain(step, **self.words(step))

    def words(self, step: Step) -> Words:
        """What the words for a step are about; they are shown and reported.

        A placeholder's value is not in them, for a file can put any allowed variable anywhere; only the vault's address is.
        """
        uri = self.resolved.endpoint.address if self.resolved else self.file.uri
        uri = step.detail if step.code == "confirm_vault" else uri
        return {"key": self.key, "namespace": self.file.namespace, "uri": uri, "wrapped": self.wrapped}

    def preflight(self) -> tuple[Step, ...]:
        """Ask the vault step by step; nothing is contacted when the file could not be resolved."""
        reach = self._reach()
        return reach if isinstance(reach, tuple) else run(reach, key=self.key, wrapped=self.wrapped)

    def client(self) -> Vault:
        """A client with the customer's token. Raises CustomerVaultMisconfigured."""
        reach = self._reach()
        if isinstance(reach, CustomerTransport):
            return reach.vault
        words = self.explained(verdict(reach))
        raise CustomerVaultMisconfigured(verdict(reach).code, f"{words.title}: {words.sentence}")

    def _reach(self) -> CustomerTransport | tuple[Step, ...]:
        """The way to the vault, or the steps that say why there is none."""
        if self.resolved is None:
            assert self.problem is not None
            return refused(self.problem.code, self.problem.detail)
        try:
            return CustomerTransport(self.resolved.vault, ca=self.resolved.ca, proxy=self.resolved.proxy)
        except ConnectionSettingsInvalid as unusable:
            return refused(unusable.code, unusable.detail)


class KeySources:
    """Gives the KeySource of a revision. environment: the variables that a properties file may ask for."""

    def __init__(self, home: Home, hosted: Vault, settings: SettingsCache, environment: Mapping[str, str]) -> None:
        self._home, self._hosted, self._settings, self._environment = home, hosted, settings, environment
        self._clients: dict[int, tuple[Resolved | None, Vault]] = {}

    def of(self, revision: int) -> KeySource:
        """Raises SettingsRefused, CustomerVaultMisconfigured when the file cannot be resolved, the hosted vault's errors."""
        customer = self.customer(revision)
        if customer is None:
            return HostedKeys(self._hosted, credentials.read_atom(self._home).login)
        return CustomerKeys(self.client(revision, customer), customer.key, wrapped=customer.wrapped)

    def allowed(self) -> tuple[Sequence[str], Sequence[str]]:
        """The vaults and variables that this container's command line allows just now. Raises the storage's errors."""
        config = self._home.read_config()
        return config.allow_vaults, config.allow_env

    def customer(self, revision: int) -> CustomerVaultClient | None:
        """The customer's vault of a revision, None in hosted mode. Contacts nobody but the hosted vault, and that once."""
        opened = self._settings.open(revision)
        if opened.vault is None:
            return None
        atom: AtomCredentials = credentials.read_atom(self._home)
        key = key_name(atom.account_code, atom.atom)
        container = LocalEnvironment(self._environment, *self.allowed())  # each time: heard without a restart
        try:
            return CustomerVaultClient(opened.vault, resolve(opened.vault, container), None, key, opened.wrapped)
        except Unresolved as problem:
            return CustomerVaultClient(opened.vault, None, problem, key, opened.wrapped)

    def client(self, revision: int, customer: CustomerVaultClient) -> Vault:
        """A client of the customer's vault, made once for each revision."""
        known = self._clients.get(revision)
        if known is None or known[0] != customer.resolved:
            known = (customer.resolved, customer.client())
            self._clients = {revision: known}
        return known[1]
