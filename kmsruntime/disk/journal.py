"""How far a hand-over of vault credentials has come, on disk, so that it goes on after a crash instead of starting over.

The file holds wrapping tokens and opened credentials (mode 0600) and is gone when the hand-over is done. With a wrapped
encryption key it holds its public form only: after a crash the credentials are fetched again, and what this container
tried itself is still known.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from kmsruntime.disk.home import Home, read_as, write_document

Purpose = Literal["installation", "attachment", "renewal", "lost"]


@dataclass(slots=True)
class WrappedCredential:
    """One wrapped credential (a role_id or a secret_id).

    ends: the vault's clock until which the token lives at least. looked_up: its origin was checked. value: what it held,
    "" while unopened; accessor, created (vault's clock) and seconds belong to an opened secret_id.
    """

    token: str = field(repr=False)
    ends: int
    looked_up: bool = False
    value: str = field(default="", repr=False)
    accessor: str = ""
    created: int = 0
    seconds: int = 0


@dataclass(slots=True)
class WrappedLogin:
    """A login at `auth/<mount>` for one recipient, in two halves."""

    mount: str
    recipient: str
    role_id: WrappedCredential
    secret_id: WrappedCredential


@dataclass(slots=True)
class HandoverDelivery:
    """Whose credentials these are, as the portal says."""

    node: str
    account: str
    account_code: str
    atom: str
    atom_name: str
    atom_type: str
    environment: str
    environment_name: str
    attachment_revision: int


@dataclass(slots=True)
class Journal:
    """installer: SHA-256 of the installer token, in hex; "" unless this is an installation.

    tried: SHA-256 of every wrapping token this container has sent, or was about to send, to be unwrapped.
    restarts: how often credentials had to be fetched anew. roles: role_ids opened so far, by "<mount>/<recipient>".
    """

    purpose: Purpose
    installer: str
    sync_token: str = field(repr=False)
    settings_token: str = field(repr=False)
    enrolment: str = ""
    delivery: HandoverDelivery | None = None
    grants: list[WrappedLogin] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict, repr=False)
    rewrap: bool = False  # the wrapped role_ids are used up: have them wrapped anew before fetching
    restarts: int = 0
    logged_in: bool = False
    confirmed: bool = False

    def public(self) -> Journal:
        """The same without any secret: which hand-over, and which tokens were tried."""
        return replace(
            self, sync_token="", settings_token="", delivery=None, grants=[], roles={}, logged_in=False, confirmed=False
        )


def read_journal(home: Home) -> Journal | None:
    """The hand-over that is under way, if any. Raises StoreDamaged, StorageFailed."""
    return read_as(Journal, home.handover)


def write_journal(home: Home, journal: Journal, *, public: bool = False) -> None:
    write_document(home.handover, asdict(journal.public() if public else journal))


def fingerprint(token: str) -> str:
    """SHA-256 in hex: says which token without being one."""
    return hashlib.sha256(token.encode()).hexdigest()
