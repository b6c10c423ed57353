"""The hand-over of vault credentials: at enrolment, after re-attachment, and before the old ones end.

One object, one step at a time: `advance()` has one effect outside this machine at most and changes the journal, which the
caller writes durably before the next step. So a crash costs one step, whichever it was; a step done twice is harmless.
A wrapping token is marked as tried before it is sent: only an unwrap refused within the token's life that this container
never tried is somebody else's doing, and reported as such (DESIGN.md §2).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, Final

from kmscore.vaultclient.answers import VaultRefused, number_of, text_of
from kmscore.vaultclient.client import Vault
from kmsruntime import VERSION
from kmsruntime.disk.journal import HandoverDelivery, Journal, WrappedCredential, WrappedLogin, fingerprint
from kmsruntime.errors import (
    EnrolmentRefused,
    HostedVaultRefused,
    Intrusion,
    PortalMisconfigured,
    PortalRefused,
    RuntimeProblem,
)
from kmsruntime.remote.fields import account_code, number, small_number, text, token, uuid_text
from kmsruntime.remote.hosted_vault import vault_errors
from kmsruntime.remote.portal import Portal

RESTARTS: Final = 8
# The portal never hands out a wrapped role_id in the last minute of its life; half of that allows for a slow network.
ROLE_ID_SECONDS: Final = 30
MOST_SECONDS: Final = 366 * 86400  # no wrapping token lives longer
_LOST_TRACK: Final = ("nothing_to_confirm", "accessor_unknown")


class HandoverVoid(RuntimeProblem):
    """The hand-over cannot go on and another one may be begun; `code` and text say why."""

    kind = "enrolment_refused"


class Handover:
    """Drives a journal to its end. `installer_token` is needed for the first step of an installation only."""

    def __init__(self, portal: Portal, vault: Vault, journal: Journal, installer_token: str = "") -> None:
        self.journal = journal
        self._portal, self._vault, self._installer_token = portal, vault, installer_token
        self._marked: set[str] = set()  # marked by this very object and not sent yet

    @property
    def done(self) -> bool:
        return self.journal.confirmed

    def advance(self) -> float:
        """Do the next step; returns the seconds to wait before the one after it.

        Raises EnrolmentRefused, Intrusion, HandoverVoid and the portal's and vault's errors. After any of them the
        journal is still true; unavailable servers are tried again by calling this again.
        """
        journal = self.journal
        if not journal.enrolment:
            return self._ask()
        if journal.rewrap:
            return self._ask_again()
        if not journal.grants:
            return self._fetch()
        for grant, name, half in _unopened(journal):
            with vault_errors():
                return self._open(grant, name, half)
        if not journal.logged_in:
            with vault_errors():
                return self._log_in()
        return self._confirm()

    # -- asking ----------------------------------------------------------------------------------------------------

    def _ask(self) -> float:
        journal = self.journal
        if journal.purpose == "installation":
            body = {
                "sync_hash": fingerprint(journal.sync_token),
                "settings_hash": fingerprint(journal.settings_token),
                "host_name": socket.gethostname(),
                "version": VERSION,
            }
            try:
                document = self._portal.post("enrol", self._installer_token, body).document
            except PortalRefused as refusal:
                raise EnrolmentRefused(refusal.code, refusal.sentence) from None
        else:
            document = self._portal.post("credentials", journal.sync_token, {"reason": journal.purpose}).document
        try:
            journal.enrolment = uuid_text(document.get("enrolment"))
        except ValueError:
            raise unreadable() from None
        return _pause(document)

    def _ask_again(self) -> float:
        document = self._portal.post(f"enrolments/{self.journal.enrolment}/again", self._credential, {}).document
        self.journal.rewrap = False
        return _pause(document)

    def _fetch(self) -> float:
        with vault_errors():
            before = self._vault.server_time()  # what is wrapped after this moment lives at least from this moment
        try:
            answer = self._portal.get(f"enrolments/{self.journal.enrolment}", self._credential)
        except PortalRefused as refusal:
            raise HandoverVoid(refusal.code, refusal.sentence) from None
        if answer.status == 202:
            return self._not_ready(answer.document)
        self.journal.delivery, self.journal.grants = _delivered(answer.document, before)
        for grant in self.journal.grants:
            grant.role_id.value = self.journal.roles.get(f"{grant.mount}/{grant.recipient}", "")
        return 0.0

    def _not_ready(self, document: dict[str, Any]) -> float:
        if document.get("state") == "intruded":
            raise HandoverVoid("intruded", "These credentials were opened by somebody else and are void.")
        if document.get("state") == "confirmed":
            raise HandoverVoid("already_confirmed", "These credentials were taken already.")
        return _pause(document)

    @property
    def _credential(self) -> str:
        return self.journal.sync_token

    # -- opening ---------------------------------------------------------------------------------------------------

    def _open(self, grant: WrappedLogin, name: str, half: WrappedCredential) -> float:
        mark = fingerprint(half.token)
        if not half.looked_up:
            self._look_up(grant, name, half)
        elif mark not in self.journal.tried:
            self.journal.tried.append(mark)
            self._marked.add(mark)
        else:
            self._unwrap(grant, name, half)
        return 0.0

    def _look_up(self, grant: WrappedLogin, name: str, half: WrappedCredential) -> None:
        try:
            origin = self._vault.lookup_wrapping(half.token)
        except VaultRefused:
            self._refused(grant, name, half, tried=fingerprint(half.token) in self.journal.tried)
            return
        expected = f"auth/{grant.mount}/role/{grant.recipient}/{name.replace('_', '-')}"
        if origin.creation_path != expected:
            raise EnrolmentRefused(
                "credential_foreign",
                "The portal handed over a credential of another kind or recipient; it was not opened.",
            )
        half.looked_up, half.created, half.ends = True, origin.created, origin.created + origin.seconds

    def _unwrap(self, grant: WrappedLogin, name: str, half: WrappedCredential) -> None:
        mark = fingerprint(half.token)
        # The mark alone says "perhaps sent"; sent for the first time by this very call is known only here.
        first = mark in self._marked
        self._marked.discard(mark)
        try:
            held = self._vault.unwrap_response(half.token)
        except VaultRefused:
            self._refused(grant, name, half, tried=not first)
            return
        half.value = text_of(held, name)
        if name == "role_id":
            self.journal.roles[f"{grant.mount}/{grant.recipient}"] = half.value
        else:
            half.accessor = text_of(held, "secret_id_accessor")
            half.seconds = 0 if held.get("secret_id_ttl") is None else number_of(held, "secret_id_ttl")

    def _refused(self, grant: WrappedLogin, name: str, half: WrappedCredential, *, tried: bool) -> None:
        """The token is used or expired. Only our own trying and the vault's clock tell which, and by whom."""
        if not tried and self._vault.server_time() < half.ends:
            self._portal.post(
                f"enrolments/{self.journal.enrolment}/intrusion", self._credential, {"mount": grant.mount}
            )
            raise Intrusion(
                "intrusion",
                "Somebody else opened the credentials made for this container. They are void and the portal was told: "
                "look at the audit log, then enrol with a new installer token.",
            )
        self._start_over(rewrap=name == "role_id")

    def _start_over(self, *, rewrap: bool) -> None:
        journal = self.journal
        if journal.restarts >= RESTARTS:
            raise HandoverVoid(
                "handover_failed", "The vault credentials could not be opened; a new hand-over is needed."
            )
        journal.restarts += 1
        journal.rewrap, journal.grants, journal.delivery, journal.logged_in = rewrap, [], None, False

    # -- using -----------------------------------------------------------------------------------------------------

    def _log_in(self) -> float:
        for grant in self.journal.grants:
            try:
                self._vault.login(grant.mount, grant.role_id.value, grant.secret_id.value)
            except VaultRefused as refusal:
                if self.journal.restarts >= RESTARTS:
                    raise HostedVaultRefused(
                        "login_refused", "The vault does not accept the credentials it gave."
                    ) from refusal
                # Destroyed because the Atom was moved meanwhile, or a role that was made anew: its role_id is stale too.
                self.journal.roles.pop(f"{grant.mount}/{grant.recipient}", None)
                self._start_over(rewrap=True)
                return 1.0
        self.journal.logged_in = True
        return 0.0

    def _confirm(self) -> float:
        accessors = [grant.secret_id.accessor for grant in self.journal.grants]
        try:
            self._portal.post(
                f"enrolments/{self.journal.enrolment}/confirm", self._credential, {"accessors": accessors}
            )
        except PortalRefused as refusal:
            if refusal.code not in _LOST_TRACK:
                raise HandoverVoid(refusal.code, refusal.sentence) from None
            self._start_over(rewrap=False)
            return 1.0
        self.journal.confirmed = True
        return 0.0


def _unopened(journal: Journal) -> Iterator[tuple[WrappedLogin, str, WrappedCredential]]:
    for grant in journal.grants:
        for name, half in (("role_id", grant.role_id), ("secret_id", grant.secret_id)):
            if not half.value:
                yield grant, name, half


def _delivered(document: dict[str, Any], before: int) -> tuple[HandoverDelivery, list[WrappedLogin]]:
    """Read a delivery; `before` is the vault's clock before it was asked for. Raises PortalMisconfigured, EnrolmentRefused."""
    try:
        delivery, grants = _delivery(document), [_grant(one, before) for one in document["grants"]]
    except (KeyError, TypeError, ValueError):
        raise unreadable() from None
    expected = {("atoms", delivery.atom)} | (
        {("environments", delivery.environment)} if delivery.environment else set()
    )
    if {(grant.mount, grant.recipient) for grant in grants} != expected or len(grants) != len(expected):
        raise EnrolmentRefused(
            "credential_foreign", "The portal handed over credentials for something else; none was opened."
        )
    return delivery, grants


def _delivery(document: dict[str, Any]) -> HandoverDelivery:
    """Raises KeyError, TypeError, ValueError for what is not of its form."""
    account, atom, environment = document["account"], document["atom"], document["environment"]
    return HandoverDelivery(
        node=uuid_text(document["node"]),
        account=uuid_text(account["id"]),
        account_code=account_code(account["code"]),
        atom=uuid_text(atom["id"]),
        atom_name=text(atom["name"]),
        atom_type=text(atom["type"]),
        environment="" if environment is None else uuid_text(environment["id"]),
        environment_name="" if environment is None else text(environment["name"]),
        attachment_revision=small_number(document["attachment_revision"]),
    )


def _grant(one: dict[str, Any], before: int) -> WrappedLogin:
    """Raises as `_delivery`."""
    seconds = number(one["seconds"])
    return WrappedLogin(
        text(one["mount"]),
        text(one["recipient"]),
        WrappedCredential(token(one["role_id_token"]), before + min(seconds, ROLE_ID_SECONDS)),
        WrappedCredential(token(one["secret_id_token"]), before + min(seconds, MOST_SECONDS)),
    )


def _pause(document: dict[str, Any]) -> float:
    seconds = document.get("poll_after", 1)
    return min(max(float(seconds), 0.1), 60.0) if isinstance(seconds, int | float) else 1.0


def unreadable() -> PortalMisconfigured:
    return PortalMisconfigured(
        "answer_invalid", "The portal's answer could not be read; update kms-runtime or the portal."
    )
