"""The parts that one container's program is made of, each built once from its directory when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from kmscore.vaultclient.client import Vault
from kmsruntime.disk import rights
from kmsruntime.disk.home import Config, Home
from kmsruntime.keysource.settings import SettingsCache
from kmsruntime.keysource.sources import KeySources
from kmsruntime.remote.hosted_vault import hosted_vault
from kmsruntime.remote.portal import Portal
from kmsruntime.store.sealed_state import SealedState


class Container:
    """What belongs to one directory. environment: the variables that a properties file may ask for, this machine's by default.

    Building a part contacts nobody. Raises NotEnrolled, and HostedVaultMisconfigured for an unusable address or CA file.
    """

    def __init__(self, home: Home, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._environment = rights.environment() if environment is None else environment

    @cached_property
    def config(self) -> Config:
        """The addresses it was enrolled with."""
        return self.home.read_config()

    @cached_property
    def portal(self) -> Portal:
        return Portal(self.config.portal, self.config.portal_ca)

    @cached_property
    def hosted(self) -> Vault:
        """The hosted vault, without a token."""
        return hosted_vault(self.config)

    @cached_property
    def settings(self) -> SettingsCache:
        """The Atom's KMS settings, fetched and kept."""
        return SettingsCache(self.home, self.hosted, self.portal)

    @cached_property
    def sources(self) -> KeySources:
        """The vaults that make its at-rest data keys."""
        return KeySources(self.home, self.hosted, self.settings, self._environment)

    @cached_property
    def sealed_state(self) -> SealedState:
        """What it holds, sealed."""
        return SealedState(self.home, self.config, self.sources.of)
