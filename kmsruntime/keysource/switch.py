"""Switching vaults: seals what is held under a key of the vault that the newest KMS settings name.

Only when that is durable do the new settings count. Whatever fails before leaves the store as it is, under the old vault;
it is tried again after 5 s, 10 s … 60 s, and at once when the settings change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from kmscore.backoff import backoff_seconds
from kmscore.byov.preflight import verdict
from kmscore.byov.verdicts import Step
from kmsruntime.errors import RuntimeProblem
from kmsruntime.keysource.settings import SettingsCache
from kmsruntime.keysource.sources import CustomerVaultClient, KeySources
from kmsruntime.store.format import Store
from kmsruntime.store.sealed_state import SealedState

PENDING: Final = "switch_pending"
FIRST_SECONDS: Final = 5.0
MOST_SECONDS: Final = 60.0
_TRANSIENT: Final = ("customer_vault_unavailable", "customer_vault_refused", "customer_vault_misconfigured")
_TRIED_AGAIN: Final = (*_TRANSIENT, "vault_unavailable", "vault_refused", "vault_misconfigured")


@dataclass(frozen=True, slots=True)
class PreflightResult:
    """The preflight of a customer's vault, and words for the step that failed ("" when none did).

    code: of the failed step. missing: variables that are not set on this container.
    """

    steps: tuple[Step, ...] = ()
    code: str = ""
    sentence: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """A switch that has not succeeded yet, and why: "<step>: <what to do>"."""

    revision: int
    sentence: str


class VaultSwitch:
    """Keeps one directory's store with the vault its settings name.

    examined: of the vault looked at last, None as long as none was.
    """

    def __init__(
        self, sealed_state: SealedState, settings: SettingsCache, sources: KeySources, say: Callable[[str], None]
    ) -> None:
        self._sealed_state, self._settings, self._sources, self._say = sealed_state, settings, sources, say
        self.pending: Pending | None = None
        self.examined: PreflightResult | None = None
        self._again = 0.0
        self._failures = 0

    def follow(self, held: Store, *, accept_restore: bool = False) -> bool:
        """Whether the store was switched just now. Raises SettingsRefused, StorageFailed, and the portal's errors.

        accept_restore: settings older than those that were taken are taken, this once.
        """
        current = held.header.settings_revision
        wanted = self._settings.wanted(current)
        is_lower = self._settings.is_lower(wanted, current)  # or the portal has lost a switch that is pending
        if wanted == current and not is_lower:
            self.pending = None
            self._settings.keep(current)
            return False
        if not is_lower and self._is_waiting(wanted):
            return False
        wanted, sentence = self._tried(held, wanted, accept_restore)
        if not sentence:
            self.pending, self._failures = None, 0
            return wanted != current
        self._note(wanted, sentence)
        return False

    def _is_waiting(self, wanted: int) -> bool:
        return self.pending is not None and self.pending.revision == wanted and time.monotonic() < self._again

    def _tried(self, held: Store, wanted: int, accept_restore: bool) -> tuple[int, str]:
        """The revision that was tried and why it did not succeed, "" when it did, or when it is the store's own."""
        current = held.header.settings_revision
        try:
            self._settings.fetch(wanted, current, accept_restore=accept_restore)
            wanted = self._settings.wanted(current)
            if wanted == current:
                return wanted, ""
            customer = self._sources.customer(wanted)
            found = self.examined = examine(customer)
            if not found.code:
                self._reseal(held, wanted, customer)
            return wanted, found.sentence
        except RuntimeProblem as problem:
            if problem.kind not in _TRIED_AGAIN:
                raise
            return wanted, problem.sentence

    def _reseal(self, held: Store, revision: int, customer: CustomerVaultClient | None) -> None:
        header = replace(held.header, settings_revision=revision, source="byov" if customer else "hosted")
        wrapped = customer is not None and customer.wrapped
        try:
            key = self._sealed_state.new_key(header) if len(held.index) or wrapped else None
            self._sealed_state.put(header, held.entries(), key)
        except RuntimeProblem:
            self._sealed_state.file.forget_unused(held.header)
            raise
        self._settings.settle(revision)
        where = "your own vault" if customer else "the hosted vault"
        self._say(f"Sealed what is held under a key of {where}{', wrapped' if wrapped else ''}.")

    def _note(self, revision: int, sentence: str) -> None:
        if self.pending is None or self.pending.revision != revision:
            self._failures = 0
        pause = backoff_seconds(self._failures, FIRST_SECONDS, MOST_SECONDS)
        self._failures, self._again = self._failures + 1, time.monotonic() + pause
        before, self.pending = self.pending, Pending(revision, sentence)
        if before != self.pending:
            self._say(f"The switch to the new KMS settings is pending: {sentence}")

    # -- when the vault in use fails -------------------------------------------------------------------------------

    def explained(self, problem: RuntimeProblem, *revisions: int) -> RuntimeProblem:
        """The trouble at the customer's vault by the preflight's failing step, which is kept in `examined`.

        revisions: of the settings that were tried; the first one whose preflight fails explains it.
        """
        if problem.kind not in _TRANSIENT:
            return problem
        for revision in revisions:
            with suppress(RuntimeProblem):
                found = examine(self._sources.customer(revision))
                if found.code:
                    self.examined = found
                    return type(problem)(found.code, found.sentence)
        return problem

    def look_again(self, revision: int) -> None:
        """What is found at the vault in use, now that it works again."""
        with suppress(RuntimeProblem):
            self.examined = examine(self._sources.customer(revision))


def examine(customer: CustomerVaultClient | None) -> PreflightResult:
    """Resolve and run the preflight; nothing is contacted when the file cannot be resolved. Nothing of a hosted vault."""
    if customer is None:
        return PreflightResult()
    steps = customer.preflight()
    failed = verdict(steps)
    if failed.state != "failed":
        return PreflightResult(steps)
    words = customer.explained(failed)
    missing = customer.problem.missing if customer.problem else ()
    return PreflightResult(steps, failed.code, f"{words.title}: {words.sentence}", missing)
