"""What an enrolled container holds to be let in, in two halves kept apart.

The Atom's half (login at the vault's `atoms`, the portal credential that fetches this Atom's KMS settings) always lies in
the directory. The environment's half (login at `environments`, the portal credential that fetches values) lies in a file
beside it, or with a wrapped encryption key in the store: store/sealed_state.py knows where, here is only what it looks
like.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson

from kmsruntime.disk.home import Home, Made, not_enrolled, read_as, write_document
from kmsruntime.disk.typed import built

CREDENTIAL_BYTES: Final = 32  # 43 characters of base64url
RENEW_BELOW: Final = 1 / 3  # of a secret_id's life


@dataclass(frozen=True, slots=True)
class VaultLogin:
    """An AppRole login: mount ``atoms`` or ``environments``, whose role is named by the recipient's UUID.

    issued: the vault's own clock (seconds since 1970) when the secret_id was made. seconds: its life, 0 for no end.
    """

    mount: str
    recipient: str
    role_id: str = field(repr=False)
    secret_id: str = field(repr=False)
    accessor: str
    issued: int
    seconds: int

    def wants_renewal(self, vault_time: int) -> bool:
        """Whether less than a third of its life is left, by the vault's clock."""
        return bool(self.seconds) and self.issued + self.seconds - vault_time < self.seconds * RENEW_BELOW


@dataclass(frozen=True, slots=True)
class AtomCredentials:
    """Who this container is: names are for people, ids decide. installer: SHA-256 of the installer token it used.

    next_login: of a hand-over that may be confirmed or not; then `login` or this one is good, and a wrapped encryption key
    can be reached after a crash either way.
    """

    account: str
    account_code: str
    atom: str
    atom_name: str
    atom_type: str
    node: str
    installer: str
    settings_token: str = field(repr=False)
    login: VaultLogin
    next_login: VaultLogin | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentCredentials:
    """Where the Atom is attached as of `attachment_revision`; environment "" and no login while it is detached.

    exposed, sync_exposed: it lies in the store now, and its login, its sync credential, once lay in the clear, so that new
    ones are wanted. next_sync_token: the portal may know this one already instead of `sync_token`.
    """

    sync_token: str = field(repr=False)
    environment: str
    environment_name: str
    attachment_revision: int
    login: VaultLogin | None
    exposed: bool = False
    sync_exposed: bool = False
    next_sync_token: str = field(default="", repr=False)


def new_portal_credential() -> str:
    """A secret of this container that the portal knows by its SHA-256 only."""
    return secrets.token_urlsafe(CREDENTIAL_BYTES)


def read_atom(home: Home) -> AtomCredentials:
    """Raises NotEnrolled, StoreDamaged."""
    return _read(AtomCredentials, home, home.atom)


def write_atom(home: Home, half: AtomCredentials) -> None:
    write_document(home.atom, asdict(half))


def read_environment(home: Home) -> EnvironmentCredentials:
    """Raises NotEnrolled, StoreDamaged."""
    return _read(EnvironmentCredentials, home, home.environment)


def write_environment(home: Home, half: EnvironmentCredentials) -> None:
    write_document(home.environment, asdict(replace(half, exposed=False, sync_exposed=False)))


def encode_environment(half: EnvironmentCredentials) -> bytes:
    """JSON, for the store's sealed credentials."""
    return orjson.dumps(asdict(half))


def decode_environment(text: bytes) -> EnvironmentCredentials:
    """The text was sealed with the store's key, so it is what `encode_environment` made."""
    return built(EnvironmentCredentials, orjson.loads(text))


def _read(made: type[Made], home: Home, path: Path) -> Made:
    found = read_as(made, path)
    if found is None:
        raise not_enrolled(home)
    return found
