"""`check`: what the newest KMS settings ask of this container and of the customer's vault, without changing anything.

And the same look when `get` or `exec` cannot open a store: why the vault it is sealed with does not help.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kmscore.byov.preflight import Step, verdict
from kmsruntime.disk.home import Home
from kmsruntime.errors import CustomerVaultUnfit, RuntimeProblem
from kmsruntime.keysource import check_report
from kmsruntime.keysource.settings import KmsSettings
from kmsruntime.keysource.sources import Customer, Sources
from kmsruntime.keysource.switch import Examined, examine
from kmsruntime.remote.hosted_vault import hosted_vault
from kmsruntime.remote.portal import Portal
from kmsruntime.store.file import StoreFile


@dataclass(frozen=True, slots=True)
class Checkup:
    """The steps, none in hosted mode. problem: to be raised after showing them, None when the vault can be used."""

    revision: int
    customer: Customer | None
    steps: tuple[Step, ...]

    @property
    def problem(self) -> RuntimeProblem | None:
        failed = verdict(self.steps)
        if self.customer is None or failed.state != "failed":
            return None
        words = self.customer.explained(failed)
        return CustomerVaultUnfit(failed.code, f"{words.title}: {words.sentence}")

    def screen(self) -> str:
        """For people."""
        if self.customer is None:
            return f"KMS settings, revision {self.revision}: the hosted vault is used; there is nothing to check."
        return check_report.screen(self.steps, **self.customer.words(verdict(self.steps)))

    def document(self) -> dict[str, Any]:
        """For programs: settings_revision, source, wrapped, ok, verdict, steps."""
        about = {
            "settings_revision": self.revision,
            "source": "byov" if self.customer else "hosted",
            "wrapped": bool(self.customer and self.customer.wrapped),
        }
        if self.customer is None:
            return about | {"ok": True, "verdict": "ok", "steps": []}
        return about | check_report.document(self.steps, **self.customer.words(verdict(self.steps)))


def checkup(home: Home, environment: Mapping[str, str] = os.environ) -> Checkup:
    """Fetch the newest settings (kept ones when the portal is down), resolve the file here, run the preflight.

    Raises NotEnrolled, SettingsRefused, the portal's and the hosted vault's errors.
    """
    settings, sources = parts(home, environment)
    with home.lock():
        header = StoreFile(home, home.read_config()).header()
        revision = settings.latest(header.settings_revision if header else 0)
        customer = sources.customer(revision)
    return Checkup(revision, customer, customer.preflight() if customer else ())


def parts(home: Home, environment: Mapping[str, str] = os.environ) -> tuple[KmsSettings, Sources]:
    """The settings of a directory, and the vaults they name, for one command. Raises NotEnrolled, VaultUnfit."""
    config = home.read_config()
    vault = hosted_vault(config)
    settings = KmsSettings(home, vault, Portal(config.portal, config.portal_ca))
    return settings, Sources(home, vault, settings, environment)


def explained(home: Home, problem: RuntimeProblem, environment: Mapping[str, str] = os.environ) -> RuntimeProblem:
    """Trouble at the vault of a wrapped store, by the preflight's step that fails; any other problem as it is."""
    if not problem.kind.startswith("customer_vault_"):
        return problem
    found = Examined()
    with suppress(RuntimeProblem):
        header = StoreFile(home, home.read_config()).header()
        if header is not None and header.memory_only:
            found = examine(parts(home, environment)[1].customer(header.settings_revision))
    return type(problem)(found.code, found.sentence) if found.code else problem
