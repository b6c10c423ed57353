"""One sync: ask the portal what changed, open it, check it, seal everything under a new key, replace the store, report.

Nothing is replaced before all of it was checked. What goes wrong leaves the store as it is, is kept for `status`, reported
to the portal when it can be reached, and raised.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from runtime import checking, credentials
from runtime.credentials import AtomHalf, EnvironmentHalf
from runtime.delivery import Delivery, read_delivery
from runtime.enrol import Wait, new_credentials, under_way
from runtime.errors import DeliveryRefused, Intrusion, RuntimeProblem, StoreDamaged, StoreForeign, VaultSaysNo
from runtime.home import Config, Home
from runtime.hosted import LOGIN_REFUSED, hosted_vault, vault_errors
from runtime.hosted_keys import HostedKeys
from runtime.journal import Purpose
from runtime.keys import KeySource
from runtime.opening import open_delivery
from runtime.portal import Portal
from runtime.report import Telling
from runtime.state import OK, read_state, write_state
from runtime.store import Header, Store
from runtime.storefile import StoreFile, StoreKey
from vaults.transit import Vault

ROUNDS: Final = 8  # of wiping, fetching credentials and asking again, in one sync
CHECK_SECONDS: Final = 6 * 3600  # between two looks at the vault's clock
CROSSED_SECONDS: Final = 0.2
TRUST_SECONDS: Final = 600  # how long a daemon believes that the file it checked has not rotted
DETACHED: Final = ("detached", "The Atom is attached to no environment; everything it held was wiped.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sync came to: ``unchanged``, ``updated`` or ``detached``, with a line for people."""

    result: str
    sentence: str


class Synchroniser:
    """Syncs one directory. Keeps its connections, so a daemon uses one for as long as it runs."""

    def __init__(self, home: Home, wait: Wait, say: Callable[[str], None]) -> None:
        self.home, self._wait, self._say = home, wait, say
        self._config: Config = home.read_config()
        self._portal = Portal(self._config.portal, self._config.portal_ca)
        self._vault: Vault = hosted_vault(self._config)
        self._file = StoreFile(home, self._config, self._key_source)
        self._last: tuple[object, float, Store] | None = None
        self._telling = Telling(home, self._portal, self._file)

    def sync(self, *, accept_restore: bool = False) -> Outcome:
        """Raises every error of this program; the store in use is whole whatever happens."""
        with self.home.lock():
            try:
                outcome = self._rounds(accept_restore)
            except RuntimeProblem as problem:
                self._telling.failed(problem)
                raise
            verdict = DETACHED if outcome.result == "detached" else (OK, "")
            self._telling.went_well(*verdict, news=outcome.result != "unchanged")
            return outcome

    def _rounds(self, accept_restore: bool) -> Outcome:
        purpose = under_way(self.home)
        if purpose is not None and purpose != "renewal":
            self._fetch_credentials(purpose)
        self._renew_in_time(begun=purpose == "renewal")
        left = {LOGIN_REFUSED: 1, checking.MISMATCH: 3}
        for _ in range(ROUNDS):
            try:
                with _uncollected():
                    outcome = self._once(accept_restore)
            except (VaultSaysNo, DeliveryRefused) as refusal:
                if not left.get(refusal.code):
                    raise
                left[refusal.code] -= 1
                self._mend(refusal.code)
                continue
            if outcome is not None:
                return outcome
        raise DeliveryRefused(
            "attachment_unsteady", "The Atom is being moved again and again; the next sync tries once more."
        )

    def _mend(self, code: str) -> None:
        """What may help: new credentials, or asking again after a save that crossed our question."""
        if code == LOGIN_REFUSED:
            self._say("The vault does not accept the credentials any more: asking for new ones.")
            self._fetch_credentials("lost")
        else:
            time.sleep(CROSSED_SECONDS)

    def _once(self, accept_restore: bool) -> Outcome | None:
        """One question to the portal and what follows from it; None when it has to be asked again."""
        atom, environment = credentials.read_atom(self.home), credentials.read_environment(self.home)
        held = self._held(atom, environment)
        header = held.header
        asked_anew = accept_restore or not header.etag
        answer = self._portal.get(
            "sync",
            environment.sync_token,
            query={"environment": header.environment, "since": "0" if asked_anew else str(header.revision)},
            etag="" if asked_anew else header.etag,
        )
        if answer.status == 304:
            return Outcome(
                "unchanged", f"Nothing new: revision {header.revision} of {header.environment_name or 'none'}."
            )
        delivery = read_delivery(answer.document)
        if (delivery.account, delivery.atom) != (atom.account, atom.atom):
            raise DeliveryRefused("atom_changed", "The portal answered for another Atom; nothing was taken.")
        if header.environment and header.environment != delivery.environment:
            self._wipe(held, environment)
            return None
        if not delivery.environment:
            return self._detached(held, delivery, environment, answer.etag)
        if not _fits(environment, delivery):
            self._fetch_credentials("attachment")
            return None
        return self._take(held, delivery, answer.etag, accept_restore)

    # -- what is held ----------------------------------------------------------------------------------------------

    def _held(self, atom: AtomHalf, environment: EnvironmentHalf) -> Store:
        """The store; an empty one when there is none, or when it is damaged, which is healed by fetching everything.

        A damaged one still belongs to the environment its login is for: if the Atom has left that, it is wiped as well.
        """
        header = Header(atom.account, atom.atom)
        try:
            held = self._checked() or Store(header)
        except StoreDamaged as problem:
            self._say(f"{problem.sentence.partition(':')[0]}: fetching everything anew.")
            name = environment.environment_name
            held = Store(replace(header, environment=environment.environment, environment_name=name, seen=self._seen()))
        if (held.header.account, held.header.atom) != (atom.account, atom.atom):
            raise StoreForeign(
                "store_foreign", f"{self.home.store} belongs to another Atom: name this one's directory with --dir."
            )
        return held

    def _checked(self) -> Store | None:
        """The store, every value of it opened once; a daemon looks again only when the file changed or time has passed."""
        signature = self._file.signature()
        if self._last is not None and self._last[0] == signature and time.monotonic() < self._last[1]:
            return self._last[2]
        held = self._file.read()
        if held is not None:
            held.open_all()
            self._last = (signature, time.monotonic() + TRUST_SECONDS, held)
        return held

    def _seen(self) -> Mapping[str, int]:
        """What can be saved of a damaged store's memory: its header has a checksum of its own."""
        try:
            header = self._file.header()
        except StoreDamaged:
            self._say("Which revisions were seen before is lost with it.")
            return {}
        return header.seen if header else {}

    def _wipe(self, held: Store, environment: EnvironmentHalf) -> None:
        """Nothing of the old environment stays: first its values, then the login that could fetch them again."""
        header = replace(held.header, environment="", environment_name="", revision=0, etag="")
        self._file.write_empty(header)
        credentials.write_environment(self.home, replace(environment, environment="", environment_name="", login=None))
        self._say(f"The Atom left {held.header.environment_name}: wiped its {len(held.index)} entries.")

    def _detached(self, held: Store, delivery: Delivery, environment: EnvironmentHalf, etag: str) -> Outcome:
        at = delivery.attachment_revision
        empty = EnvironmentHalf(environment.sync_token, "", "", at, None)
        if environment != empty:
            credentials.write_environment(self.home, empty)
        self._file.write_empty(
            replace(held.header, attachment_revision=at, settings_revision=delivery.settings_revision, etag=etag)
        )
        return Outcome(*DETACHED)

    # -- taking a delivery -----------------------------------------------------------------------------------------

    def _take(self, held: Store, delivery: Delivery, etag: str, accept_restore: bool) -> Outcome:
        if not accept_restore:
            checking.check_revision(delivery, held.header.seen.get(delivery.environment, 0))
        checking.check_empty(delivery)
        header = replace(
            held.header,
            environment=delivery.environment,
            environment_name=delivery.environment_name,
            revision=delivery.revision,
            attachment_revision=delivery.attachment_revision,
            settings_revision=delivery.settings_revision,
            etag=etag,
            seen={**held.header.seen, delivery.environment: delivery.revision},
        )
        if delivery.manifest is None:
            self._file.write_empty(header)
            return Outcome("updated", f"Nothing is set in {delivery.environment_name} yet.")
        return self._open_and_write(held, delivery, header)

    def _open_and_write(self, held: Store, delivery: Delivery, header: Header) -> Outcome:
        login = credentials.read_environment(self.home).login
        assert login is not None
        try:
            opened = open_delivery(self._vault, login, self._new_key, delivery)
            checking.check_manifest(opened.manifest, delivery)
            checking.check_delivered(opened.manifest, delivery)
            entries = checking.assemble(opened.manifest, delivery, opened.values, _known(held))
        except RuntimeProblem:
            self._file.forget_unused(held.header)
            raise
        self._file.write(header, entries, opened.at_rest)
        return Outcome(
            "updated",
            f"Took revision {delivery.revision} of {delivery.environment_name}: {len(entries)} entries, "
            f"{len(delivery.values) + len(delivery.plain)} of them new.",
        )

    # -- credentials -----------------------------------------------------------------------------------------------

    def _key_source(self) -> KeySource:
        return HostedKeys(self._vault, credentials.read_atom(self.home).login)

    def _new_key(self) -> StoreKey:
        return self._file.prepare(self._key_source().new_data_key())

    def _fetch_credentials(self, purpose: Purpose) -> None:
        new_credentials(self.home, self._config, self._portal, purpose, self._wait)

    def _renew_in_time(self, *, begun: bool) -> None:
        """Ask for new secret_ids when less than a third of their life is left, or go on asking when that was begun.

        What goes wrong is said and tried again with the next sync: the credentials in use are good for long enough.
        """
        try:
            if begun or self._is_renewal_due():
                self._fetch_credentials("renewal")
                self._say("Took new vault credentials in good time.")
        except Intrusion:
            raise
        except RuntimeProblem as problem:
            self._say(f"Vault credentials could not be renewed yet: {problem.sentence}")

    def _is_renewal_due(self) -> bool:
        """By the vault's clock. This machine's only hints at when to look; a jump, in either direction, makes us look."""
        state, at = read_state(self.home), int(time.time())
        if abs(at - state.vault_checked) < CHECK_SECONDS:
            return False
        with vault_errors():
            vault_time = self._vault.server_time()
        write_state(self.home, replace(state, vault_checked=at))
        logins = (credentials.read_atom(self.home).login, credentials.read_environment(self.home).login)
        return any(login.wants_renewal(vault_time) for login in logins if login)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection while a delivery is taken: it makes 100,000 objects without a cycle among them, and the
    collector would walk them again and again (a tenth of the time at 10,000 values)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _fits(environment: EnvironmentHalf, delivery: Delivery) -> bool:
    """Whether the login is for this very attachment; one from before a move is destroyed, even if the Atom came back."""
    current = (environment.environment, environment.attachment_revision)
    return environment.login is not None and current == (delivery.environment, delivery.attachment_revision)


def _known(held: Store) -> checking.Known:
    """What is held, by path; sealed values opened."""
    values = iter(held.open_all())
    return {
        one.path: (one.form, one.revision, one.digest, next(values) if one.form == "sealed" else one.plain)
        for one in held.held
    }
