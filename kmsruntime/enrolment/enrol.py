"""Enrolment and every later hand-over: begins or resumes the journal, drives it, and puts the result in its place.

The old credentials stay in use until the new ones have logged in and the portal knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kmsruntime.disk import credentials, files
from kmsruntime.disk.credentials import AtomCredentials, EnvironmentCredentials, VaultLogin
from kmsruntime.disk.home import Config, Home
from kmsruntime.disk.journal import Journal, Purpose, WrappedLogin, fingerprint, read_journal, write_journal
from kmsruntime.enrolment.handover import Handover, HandoverVoid
from kmsruntime.enrolment.options import refuse_others, united
from kmsruntime.errors import (
    EnrolmentRefused,
    HostedVaultUnavailable,
    Intrusion,
    NotEnrolled,
    PortalUnavailable,
    RuntimeProblem,
)
from kmsruntime.remote.hosted_vault import hosted_vault
from kmsruntime.remote.portal import Portal
from kmsruntime.store.keys import KeyFile
from kmsruntime.store.sealed_state import SealedState

Keep = Callable[[EnvironmentCredentials], None]
# Returns False when there is no time left to wait (asked to stop, or the caller's limit is reached).
Wait = Callable[[float], bool]
RETRY_SECONDS: Final = 2.0


class NotYet(RuntimeProblem):
    """The hand-over is not finished; running the same command again goes on with it."""

    kind = "portal_unavailable"


def enrol(home: Home, config: Config, installer_token: str, wait: Wait) -> AtomCredentials:
    """Enrol this container, or go on where an earlier run with the same token stopped. Returns who it is now.

    Raises EnrolmentRefused, Intrusion, NotYet and the portal's, vault's and storage's errors.
    """
    home.prepare()
    with home.lock():
        begun = begin(home, config, installer_token)
        if isinstance(begun, AtomCredentials):
            return begun
        _drive(home, begun, wait)
        return credentials.read_atom(home)


def begin(home: Home, config: Config, installer_token: str) -> Handover | AtomCredentials:
    """The hand-over to be driven, new or as an earlier run left it; who this container is when it is enrolled already.

    config: as the command line gives it, the key file without a mark. Raises EnrolmentRefused where that does not fit what is
    enrolled already, StorageFailed for a key file that cannot be written.
    """
    journal = read_journal(home)
    enrolled = credentials.read_atom(home) if home.atom.exists() else None
    if enrolled is not None:
        already = _already(home, enrolled, installer_token, config)
        if journal is None or journal.purpose != "installation":
            return already
        # Killed after it had put the result in its place: there is only the journal's end left to do.
        known = home.read_config()
        return Handover(Portal(known.portal, known.portal_ca), hosted_vault(known), journal, installer_token)
    config = united(home.read_config() if home.config.exists() else None, config)
    KeyFile(home.key_path(config)).try_out()  # before the portal hears of the token, which would be spent for nothing
    home.write_config(config)
    if journal is None or journal.installer != fingerprint(installer_token):
        # Our own two credentials, durable before the portal hears of them: a lost reply is asked for again.
        journal = Journal(
            "installation",
            fingerprint(installer_token),
            credentials.new_portal_credential(),
            credentials.new_portal_credential(),
        )
        write_journal(home, journal)
    return Handover(Portal(config.portal, config.portal_ca), hosted_vault(config), journal, installer_token)


def _already(home: Home, enrolled: AtomCredentials, installer_token: str, given: Config) -> AtomCredentials:
    if enrolled.installer != fingerprint(installer_token):
        raise EnrolmentRefused(
            "already_enrolled",
            f"{home.directory} is enrolled as a node of {enrolled.atom_name}. Enrol another one with another --dir; "
            "if this one was revoked, remove the directory or move it away first: a new enrolment takes nothing from it.",
        )
    refuse_others(home.directory, home.read_config(), given)
    return enrolled


def new_credentials(
    home: Home, config: Config, portal: Portal, purpose: Purpose, wait: Wait, sealed_state: SealedState
) -> None:
    """Fetch vault credentials again, or go on with a hand-over that is under way. The lock is held by the caller.

    Raises NotYet and the errors of `enrol`; the credentials in use are kept until the new ones work. With a wrapped
    encryption key no secret of it is written but into the store.
    """
    journal, public = read_journal(home), sealed_state.is_memory_only()
    if journal is not None and journal.purpose == "installation" and not journal.enrolment:
        raise NotEnrolled(
            "enrolment_unfinished",
            "The enrolment was not finished: run kms-runtime enrol again, with the same token, or a new one if it was refused.",
        )

    def begun(journal: Journal) -> None:
        if not journal.sync_token:
            journal.sync_token = sealed_state.environment().sync_token
            journal.settings_token = credentials.read_atom(home).settings_token
        handover = Handover(portal, hosted_vault(config), journal)
        _drive(home, handover, wait, keep=sealed_state.put_credentials, public=public)

    if journal is not None:
        try:
            begun(journal)
            return
        except HandoverVoid as void:
            # A run that died between confirming and its store: what it opened was in its memory only.
            if not (public and void.code == "already_confirmed"):
                raise
    begun(Journal(purpose, "", "", ""))


def under_way(home: Home) -> Purpose | None:
    """What a hand-over that was begun and not finished is for."""
    journal = read_journal(home)
    return journal.purpose if journal else None


def _drive(home: Home, handover: Handover, wait: Wait, *, keep: Keep | None = None, public: bool = False) -> None:
    try:
        while not handover.done:
            if public and handover.journal.logged_in:
                _keep_next_login(home, handover.journal)
            pause = _step(home, handover, public)
            _refuse_another(home, handover.journal)  # before it is confirmed, which ends the login in use
            if pause and not wait(pause):
                raise NotYet(
                    "handover_waiting",
                    "The portal has not handed over the credentials yet; run this again to go on waiting.",
                )
    except (HandoverVoid, Intrusion):
        files.remove(home.handover)
        raise
    adopt(home, handover.journal, keep)


def _keep_next_login(home: Home, journal: Journal) -> None:
    """Confirming destroys the old login. A wrapped container that dies right then must be able to start again."""
    logins = {grant.mount: _login(grant) for grant in journal.grants}
    credentials.write_atom(home, replace(credentials.read_atom(home), next_login=logins["atoms"]))


def _step(home: Home, handover: Handover, public: bool) -> float:
    try:
        return handover.advance()
    except (PortalUnavailable, HostedVaultUnavailable):
        # At an installation somebody is watching and wants it to go on by itself; a daemon has a back-off of its own.
        if handover.journal.purpose != "installation" or not handover.journal.enrolment:
            raise
        return RETRY_SECONDS
    finally:
        write_journal(home, handover.journal, public=public)


def adopt(home: Home, journal: Journal, keep: Keep | None = None) -> None:
    """Put confirmed credentials in their place and end the journal. Safe to do again after a crash in between.

    keep: where the environment's half goes, environment.json by default.
    """
    delivery = journal.delivery
    if delivery is None or not journal.confirmed:
        raise RuntimeError("only a confirmed hand-over is adopted")
    logins = {grant.mount: _login(grant) for grant in journal.grants}
    installer = journal.installer
    if home.atom.exists():
        _refuse_another(home, journal)
        installer = installer or credentials.read_atom(home).installer
    half = EnvironmentCredentials(
        journal.sync_token,
        delivery.environment,
        delivery.environment_name,
        delivery.attachment_revision,
        logins.get("environments"),
    )
    if keep is None:
        credentials.write_environment(home, half)
    else:
        keep(half)
    credentials.write_atom(
        home,
        AtomCredentials(
            account=delivery.account,
            account_code=delivery.account_code,
            atom=delivery.atom,
            atom_name=delivery.atom_name,
            atom_type=delivery.atom_type,
            node=delivery.node,
            installer=installer,
            settings_token=journal.settings_token,
            login=logins["atoms"],
        ),
    )
    files.remove(home.handover)


def _refuse_another(home: Home, journal: Journal) -> None:
    """Whoever this container is, it stays: its account's code is part of the name of its key at the customer's vault.

    Raises EnrolmentRefused, and ends the hand-over.
    """
    delivery = journal.delivery
    if delivery is None or not home.atom.exists():
        return
    known = credentials.read_atom(home)
    who = (known.account, known.account_code, known.atom, known.node)
    if who != (delivery.account, delivery.account_code, delivery.atom, delivery.node):
        files.remove(home.handover)
        sentence = "The portal handed over the credentials of another Atom or account; they were not taken."
        raise EnrolmentRefused("atom_changed", sentence)


def _login(grant: WrappedLogin) -> VaultLogin:
    half = grant.secret_id
    return VaultLogin(
        grant.mount, grant.recipient, grant.role_id.value, half.value, half.accessor, half.created, half.seconds
    )
