"""A process makes its own next secret_ids, long before the present ones end: after the installation no root token is needed.

The vault lets each identity make one of its own role, wrapped and with nothing of its choice. The present one stays valid until
its end: other processes may have read it, or a copy of the file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from hvac import Client

from kmscore.backoff import jittered
from kmscore.vaultclient.answers import VaultError, VaultMisconfigured, text_of
from kmscore.vaultclient.mounts import PLATFORM
from vaults.hosted.credentials import (
    HELD,
    IDENTITIES_FILE,
    LIFE,
    Credential,
    Credentials,
    CredentialsBroken,
    alone,
    read_credentials,
    write_credentials,
)
from vaults.hosted.hvac_client import wrapping_of

log = structlog.get_logger()
EVERY: Final = 3600.0  # seconds between two looks
RENEWED_WITH: Final = LIFE / 2  # left: weeks for trouble to be mended before the end
WRAP_SECONDS: Final = 60
AsIdentity = Callable[[str, Callable[[Client], Any]], Any]


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a process's file found. process: whose it is, "" when it cannot be read. expires: when the first of its
    secret_ids ends, None when it cannot be read. trouble: why it was not renewed, for people; "" for none."""

    process: str = ""
    expires: datetime | None = None
    trouble: str = ""

    @property
    def days(self) -> int:
        """How many are left; 0 when it ended or cannot be read."""
        return max((self.expires - datetime.now(UTC)).days, 0) if self.expires else 0


def renew(directory: Path, as_identity: AsIdentity) -> Look:
    """Write new secret_ids into a process's file where less than RENEWED_WITH is left of one.

    as_identity: does a call logged in as an identity of the file, as vaults.hosted.sessions.as_identity. Raises nothing: what
    goes wrong is told by name, and logged.
    """
    path = directory / IDENTITIES_FILE
    try:
        with alone(directory):  # the other processes of this file look at it, too
            held = read_credentials(directory)
            due = [name for name, one in held.identities.items() if _is_due(one)]
            if due:
                new = {name: _next(held.identities[name], name, as_identity) for name in due}
                held = Credentials(held.layout, {**held.identities, **new})
                write_credentials(directory, held)
                log.info("credentials_renewed", file=str(path), identities=sorted(due))
        return _look(held)
    except CredentialsBroken as broken:
        trouble = str(broken)
    except VaultError as error:
        trouble = f"{path} is not renewed: {error.sentence}"
    except OSError as error:
        trouble = f"{path} is not renewed: {error.filename or directory}: {error.strerror}."
    log.error("credentials_not_renewed", file=str(path), reason=trouble)
    return replace(look(directory), trouble=trouble)


def look(directory: Path) -> Look:
    """What there is, without a renewal."""
    try:
        return _look(read_credentials(directory))
    except CredentialsBroken as broken:
        return Look(trouble=str(broken))


def _look(held: Credentials) -> Look:
    whose = {name for name, identities in HELD.items() if set(held.identities) == set(identities)}
    ends = [one.expires for one in held.identities.values()]
    return Look(next(iter(whose), "several"), min(ends, default=None))


def keep_renewed(look: Callable[[], object]) -> None:
    """Look at it now and then, in a thread, as long as this process lives: a web server has no worker's clock."""

    def run() -> None:
        time.sleep(jittered(10.0, 1.0))
        while True:
            look()
            time.sleep(jittered(EVERY, 0.1))

    threading.Thread(target=run, name="renewal", daemon=True).start()


def _is_due(credential: Credential) -> bool:
    """One of a change of role_ids that is on its way is that change's affair."""
    return not credential.next_role_id and credential.expires - datetime.now(UTC) < RENEWED_WITH


def _next(credential: Credential, name: str, as_identity: AsIdentity) -> Credential:
    def call(client: Client) -> dict[str, Any]:
        approle = client.auth.approle
        wrapping = wrapping_of(approle.generate_secret_id(name, mount_point=PLATFORM, wrap_ttl=f"{WRAP_SECONDS}s"))
        unwrapped: dict[str, Any] = client.adapter.unwrap(wrapping.token)
        return unwrapped

    made = as_identity(name, call)
    seconds = made.get("secret_id_ttl")
    if type(seconds) is not int or seconds <= 0:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    return replace(credential, secret_id=text_of(made, "secret_id"), expires=expires)
