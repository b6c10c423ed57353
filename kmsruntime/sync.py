"""One sync: ask the portal what changed, follow the Atom's settings and attachment, take what was delivered, report.

What goes wrong leaves the store as it is, is kept for `status`, reported to the portal when it can be reached, and raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from kmsruntime.container import Container
from kmsruntime.delivery import verify
from kmsruntime.delivery.apply import RESTORED, apply_delivery, uncollected
from kmsruntime.delivery.read import Delivery, read_delivery
from kmsruntime.disk import credentials
from kmsruntime.disk.credentials import AtomCredentials, EnvironmentCredentials
from kmsruntime.disk.state import OK
from kmsruntime.enrolment.enrol import Wait
from kmsruntime.enrolment.renewal import Renewal
from kmsruntime.errors import (
    CustomerVaultMisconfigured,
    DeliveryRefused,
    HostedVaultRefused,
    RuntimeProblem,
    SettingsRefused,
    StoreDamaged,
    StoreForeign,
    Unforeseen,
    describe_unexpected,
)
from kmsruntime.keysource.settings import NEVER_SAVED
from kmsruntime.keysource.switch import PENDING, VaultSwitch
from kmsruntime.remote.hosted_vault import LOGIN_REFUSED
from kmsruntime.status.report import Reporter
from kmsruntime.status.selfcheck import SelfCheck
from kmsruntime.store.format import Header, Store
from kmsruntime.store.sealed_state import VAULT_TROUBLE

ROUNDS: Final = 8  # of wiping, fetching credentials and asking again, in one sync
CROSSED_SECONDS: Final = 0.2
DETACHED: Final = ("detached", "The Atom is attached to no environment; everything it held was wiped.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sync came to: ``unchanged``, ``updated`` or ``detached``, with a line for people.

    pending: why the switch to the newest KMS settings has not succeeded yet, "" when there is none.
    """

    result: str
    sentence: str
    pending: str = ""


@dataclass(slots=True)
class _Once:
    """What is known during one sync only.

    refused: the settings that were not taken; newer: those tried because the store's own do not open it.
    """

    switched: bool = False
    refused: SettingsRefused | None = None
    newer: tuple[int, ...] = ()
    fetch_all: bool = False


class Synchroniser:
    """Syncs one directory. Keeps its connections, so a daemon uses one for as long as it runs."""

    def __init__(self, container: Container, wait: Wait, say: Callable[[str], None]) -> None:
        self.home, self.sources, self.sealed_state = container.home, container.sources, container.sealed_state
        self._portal, self._vault, self._settings = container.portal, container.hosted, container.settings
        self._say = say
        self._renewal = Renewal(container, wait, say)
        self._switching = VaultSwitch(self.sealed_state, self._settings, self.sources, say)
        self.reporter = Reporter(self.home, self._portal, self.sealed_state)
        self.self_check = SelfCheck(self.home, self._portal, self._vault, self.sealed_state)
        self._once = _Once()

    def sync(self, *, accept_restore: bool = False) -> Outcome:
        """Raises every error of this program; the store in use is whole whatever happens."""
        with self.home.lock():
            self._once = _Once()
            try:
                outcome = self._rounds(accept_restore)
                if self._once.refused is not None:
                    raise self._once.refused
            except RuntimeProblem as problem:
                raise self._told(problem) from None
            except Exception as error:  # or all would seem well
                self.reporter.failed(Unforeseen("unexpected", describe_unexpected(error)))
                raise
            verdict = DETACHED if self._is_detached() else (OK, "")  # also when nothing is new since
            if outcome.pending:
                verdict = (PENDING, outcome.pending)
            else:
                self._look_again()
            self._tell_examined()
            self.reporter.went_well(*verdict, news=self._once.switched or outcome.result != "unchanged")
            return outcome

    def _is_detached(self) -> bool:
        header = self.sealed_state.header()
        return header is not None and not header.environment

    def _told(self, problem: RuntimeProblem) -> RuntimeProblem:
        """The problem as it was reported: trouble at the customer's vault by the step that fails."""
        header = self.sealed_state.header()
        if header is not None and problem.code != PENDING:
            problem = self._switching.explained(problem, *self._once.newer, header.settings_revision)
        self._tell_examined()
        self.reporter.failed(problem)
        return problem

    def _look_again(self) -> None:
        """A step that failed before is not shown as failing once all is well."""
        header = self.sealed_state.header()
        if header is not None and not self._once.switched and self.reporter.shows_failed_step():
            self._switching.look_again(header.settings_revision)

    def _tell_examined(self) -> None:
        self.reporter.examined = self._switching.examined
        self.reporter.hosted_trouble = self.self_check.trouble
        if self._once.switched:
            self.reporter.set_token_facts(None)

    def _rounds(self, accept_restore: bool) -> Outcome:
        self.sealed_state.tidy()
        self._open()
        self._renewal.go_on()
        left = {LOGIN_REFUSED: 1, verify.MISMATCH: 3, RESTORED: 1}
        for _ in range(ROUNDS):
            try:
                with uncollected():
                    outcome = self._ask(accept_restore)
            except (HostedVaultRefused, DeliveryRefused) as refusal:
                if not left.get(refusal.code):
                    raise
                left[refusal.code] -= 1
                self._mend(refusal.code)
                continue
            if outcome is not None:
                if self._once.switched and self.sealed_state.is_memory_only():
                    self._renewal.in_time()  # the login that lay in the clear until now
                return outcome
        raise DeliveryRefused(
            "attachment_unsteady", "The Atom is being moved again and again; the next sync tries once more."
        )

    def _open(self) -> None:
        """With a wrapped encryption key everything begins at the customer's vault. Raises the vaults' errors.

        When its own settings do not open the store (their token was revoked, say), the newest ones may: they are fetched
        with a credential that lies outside of it.
        """
        header = self.sealed_state.header()
        if header is None or self.sealed_state.is_open():
            return
        try:
            self.sealed_state.environment()
        except VAULT_TROUBLE:
            if not self._opens_with_newer(header.settings_revision):
                raise

    def _opens_with_newer(self, current: int) -> bool:
        with suppress(RuntimeProblem):
            newest = self._settings.latest(current)
            if newest != current and self.sources.customer(newest) is not None:
                self._once.newer = (newest,)
                self.sealed_state.file.open_with(self.sources.of(newest))
                return True
        return False

    def _mend(self, code: str) -> None:
        """What may help: new credentials, or asking again after a save that crossed our question."""
        if code == LOGIN_REFUSED:
            self._say("The vault does not accept the credentials any more: asking for new ones.")
            self._renewal.fetch("lost")
        elif code == RESTORED:
            self._once.fetch_all = True
        else:
            time.sleep(CROSSED_SECONDS)

    def _ask(self, accept_restore: bool) -> Outcome | None:
        """One question to the portal and what follows from it; None when it has to be asked again."""
        atom = credentials.read_atom(self.home)
        held = self._held(atom)
        environment = self.sealed_state.environment()
        header = held.header
        whole = accept_restore or self._once.fetch_all or not header.etag
        answer = self._portal.get(
            "sync",
            environment.sync_token,
            query={"environment": header.environment, "since": "0" if whole else str(header.revision)},
            etag="" if whole else header.etag,
        )
        if answer.status == 304:
            self._follow(held, accept_restore)
            return self._outcome(
                "unchanged", f"Nothing new: revision {header.revision} of {header.environment_name or 'none'}."
            )
        delivery = read_delivery(answer.document)
        if (delivery.account, delivery.atom) != (atom.account, atom.atom):
            raise DeliveryRefused("atom_changed", "The portal answered for another Atom; nothing was taken.")
        if header.environment and header.environment != delivery.environment:
            self._wipe(held, environment)
            return None
        self._settings.announce(delivery.settings_revision, header.settings_revision)
        if self._follow(held, accept_restore):
            held, environment = self._held(atom), self.sealed_state.environment()
        self._refuse_first_without_vault(held)
        if not delivery.environment:
            return self._detached(held, delivery, environment, answer.etag)
        if not _fits(environment, delivery):
            self._renewal.fetch("attachment")
            return None
        said = apply_delivery(
            self.sealed_state, self._vault, held, delivery, answer.etag, accept_restore=accept_restore, whole=whole
        )
        return self._outcome("updated", said)

    def _outcome(self, result: str, sentence: str) -> Outcome:
        pending = self._switching.pending
        return Outcome(result, sentence, pending.sentence if pending else "")

    def _follow(self, held: Store, accept_restore: bool) -> bool:
        """Switch vaults when the settings say so. Settings that are refused keep no value from being synced."""
        try:
            switched = self._switching.follow(held, accept_restore=accept_restore)
        except SettingsRefused as refused:
            self._once.refused = refused
            return False
        self._once.switched = self._once.switched or switched
        return switched

    def _refuse_first_without_vault(self, held: Store) -> None:
        """A container that never held anything has no old vault to go on with: its values wait for the one that was chosen."""
        if held.header.settings_revision:
            return
        if self._once.refused is not None:
            raise self._once.refused
        if self._switching.pending is not None:
            raise CustomerVaultMisconfigured(PENDING, self._switching.pending.sentence)

    # -- what is held ----------------------------------------------------------------------------------------------

    def _held(self, atom: AtomCredentials) -> Store:
        """The store; an empty one when there is none, or when it is damaged, which is healed by fetching everything.

        A damaged one still belongs to the environment its login is for: if the Atom has left that, it is wiped as well.
        """
        header = Header(atom.account, atom.atom)
        try:
            held = self.sealed_state.store() or Store(header)
        except StoreDamaged as problem:
            held = self._healing(header, problem)
        if (held.header.account, held.header.atom) != (atom.account, atom.atom):
            raise StoreForeign(
                "store_foreign", f"{self.home.store} belongs to another Atom: name this one's directory with --dir."
            )
        return held

    def _healing(self, header: Header, problem: StoreDamaged) -> Store:
        environment = self.sealed_state.environment()
        self._say(f"{problem.sentence.partition(':')[0]}: fetching everything anew.")
        known = self.sealed_state.header()
        if known is None:
            self._say("Which revisions were seen before is lost with it.")
            known = header
        return Store(
            replace(
                header,
                environment=environment.environment,
                environment_name=environment.environment_name,
                seen=known.seen,
                settings_revision=known.settings_revision,
                rekey_revision=known.rekey_revision,
                source=known.source,
            )
        )

    def _wipe(self, held: Store, environment: EnvironmentCredentials) -> None:
        """Nothing of the old environment stays: first its values, then the login that could fetch them again."""
        header = replace(held.header, environment="", environment_name="", revision=0, etag="")
        self.sealed_state.put_nothing(
            header, replace(environment, environment="", environment_name="", login=None, exposed=False)
        )
        self._say(f"The Atom left {held.header.environment_name}: wiped its {len(held.index)} entries.")

    def _detached(self, held: Store, delivery: Delivery, environment: EnvironmentCredentials, etag: str) -> Outcome:
        at = delivery.attachment_revision
        settings_revision = held.header.settings_revision or NEVER_SAVED
        rekey_revision = max(held.header.rekey_revision, delivery.rekey_revision)
        header = replace(
            held.header,
            attachment_revision=at,
            settings_revision=settings_revision,
            rekey_revision=rekey_revision,
            etag=etag,
        )
        nowhere = replace(
            environment, environment="", environment_name="", attachment_revision=at, login=None, exposed=False
        )
        self.sealed_state.put_nothing(header, nowhere)
        return self._outcome(*DETACHED)


def _fits(environment: EnvironmentCredentials, delivery: Delivery) -> bool:
    """Whether the login is for this very attachment; one from before a move is destroyed, even if the Atom came back."""
    current = (environment.environment, environment.attachment_revision)
    return environment.login is not None and current == (delivery.environment, delivery.attachment_revision)
