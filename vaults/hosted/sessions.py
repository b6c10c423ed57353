"""The portal's sessions with the hosted vault: each identity logged in, its token kept.

A process holds the identities of its own credentials file and no others (web: web, issuer; worker: provisioner,
rotator). Tokens are batch tokens of 15 minutes, kept in memory.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from hvac import Client

from accounts import signing
from kmscore.vaultclient.answers import VaultError, VaultRefused, member_of
from kmscore.vaultclient.client import Vault
from operations import load
from vaults.hosted.credentials import Credential, CredentialsBroken, log_in, read_credentials
from vaults.hosted.hvac_client import client_of

T = TypeVar("T")

PEOPLE_WAIT_FOR = ("web", "issuer")
_lock = threading.Lock()
_server: Vault | None = None
_clients: dict[str, tuple[Client, float]] = {}
_directories: tuple[Path, ...] = ()  # what `use_credentials` named


class IdentityMissing(VaultError):
    """This process was not given the identity it needs; an operator has to look at KMS_CREDENTIALS."""


def as_identity(name: str, call: Callable[[Client], T]) -> T:
    """Do `call` with hvac's client logged in as a platform identity.

    A refusal with a kept token is tried once more with a fresh one: the vault may have been restored in between. How long
    people wait for web's identities is told to bulk work, which then keeps out of the way.
    """
    if name not in PEOPLE_WAIT_FOR:
        return _as_identity(name, call)
    began = time.monotonic()
    try:
        return _as_identity(name, call)
    finally:
        load.record_wait(time.monotonic() - began)


def _as_identity(name: str, call: Callable[[Client], T]) -> T:
    client, fresh = _logged_in(name)
    try:
        return call(client)
    except VaultRefused as refusal:
        if fresh or refusal.status != 403:
            raise
    drop_tokens(name)
    return call(_logged_in(name)[0])


def drop_tokens(name: str | None = None) -> None:
    """Drop kept tokens (and, without a name, the connections): refused ones, and where credentials or servers change."""
    global _server
    with _lock:
        if name is None:
            _clients.clear()
            _server = None
        else:
            _clients.pop(name, None)


def _logged_in(name: str) -> tuple[Client, bool]:
    with _lock:
        kept = _clients.get(name)
        if kept and kept[1] > time.monotonic():
            return kept[0], False
    client = client_of(server())
    answer = _log_in(client, name)
    seconds = int(member_of(answer, "auth")["lease_duration"])
    with _lock:
        _clients[name] = (client, time.monotonic() + seconds * 0.8)
    return client, True


def _log_in(client: Client, name: str) -> dict[str, Any]:
    """By the credentials file, which is read again where the vault refuses: it may have been written anew in between."""
    credential = _credential(name)
    while True:
        try:
            return log_in(client, credential)
        except VaultRefused:
            tried, credential = credential, _credential(name)
            if credential == tried:
                raise


def server() -> Vault:
    """The hosted vault, without a token; its connections are kept."""
    global _server
    with _lock:
        if _server is None:
            _server = Vault(settings.VAULT_ADDR, ca=settings.VAULT_CA)
        return _server


def use_credentials(directories: Sequence[Path]) -> None:
    """Hold the identities and keys of these directories instead: for an operator's command, never for a server's process."""
    global _directories
    drop_tokens()
    _directories = tuple(directories)
    signing.use_directories(directories)


def _credential(name: str) -> Credential:
    identity = None
    for directory in _directories or (Path(settings.CREDENTIALS or "/nonexistent"),):
        with suppress(CredentialsBroken):
            identity = identity or read_credentials(directory).identities.get(name)
    if identity is None:
        raise IdentityMissing("identity_missing", f"KMS_CREDENTIALS of this process gives no identity {name}.")
    return identity
