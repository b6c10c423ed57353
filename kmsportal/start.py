"""What a production process looks at as it starts, besides its settings: that credentials and keys are its own, and its clock."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from accounts import signing
from kmscore.sealed.key_list import KeyListBroken, read_key_list
from kmscore.vaultclient.answers import VaultError
from vaults.hosted import calls
from vaults.hosted.credentials import HELD, CredentialsBroken, read_credentials

CLOCK_SECONDS = 60  # what a clock may differ by from the vault's: times are signed, and decide


def check(process: str) -> None:
    """process: the name in HELD of what this one has to hold. Raises ImproperlyConfigured, KeyringBroken."""
    if settings.PRODUCTION:
        _check_credentials(process)
        _check_state()
        _check_keys(process)
        _check_clock()


def process_of(queues: Sequence[str]) -> str:
    """Of a worker: shredding is another process's than all other work."""
    return "shredder" if list(queues) == ["shred"] else "worker"


def _check_state() -> None:
    assert settings.STATE is not None  # production's settings have refused that
    found = settings.STATE.stat()
    if found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
        raise ImproperlyConfigured(
            f"KMS_STATE: others may write to {settings.STATE}; make it this process's own, mode 0700."
        )


def _check_credentials(process: str) -> None:
    """The parts of the portal are apart because none holds another's credentials."""
    if not settings.CREDENTIALS:
        raise ImproperlyConfigured("Set KMS_CREDENTIALS.")
    try:
        held = set(read_credentials(Path(settings.CREDENTIALS)).identities)
    except CredentialsBroken as problem:
        raise ImproperlyConfigured(f"KMS_CREDENTIALS: {problem}") from None
    if held != set(HELD[process]):
        known = next((name for name, identities in HELD.items() if held == set(identities)), "another set")
        raise ImproperlyConfigured(f"KMS_CREDENTIALS is of {known}, and this process is to have {process}'s alone.")
    if (process == "web") != settings.SECRET_KEY_GIVEN:
        needs = "Set KMS_SECRET_KEY or KMS_SECRET_KEY_FILE." if process == "web" else "KMS_SECRET_KEY is web's alone."
        raise ImproperlyConfigured(needs)


def _check_keys(process: str) -> None:
    keyring = signing.keyring()
    if keyring.processes != (process,):
        holds = " and ".join(keyring.processes) or "nobody"
        raise ImproperlyConfigured(f"KMS_CREDENTIALS has the signing keys of {holds}: this process signs as {process}.")
    if process == "web":
        return  # it has its list from its directory, and from nowhere else
    with suppress(VaultError):  # one that does not answer is waited for
        text = calls.key_list(HELD[process][0])
        try:
            newest = read_key_list(bytes.fromhex(settings.PORTAL_ROOT), text).serial if text else 0
        except KeyListBroken as problem:
            raise ImproperlyConfigured(f"The key list in the vault cannot be used: {problem}") from None
        if newest > keyring.listed.serial:
            lists = f"the vault has list {newest}, portal-keys is list {keyring.listed.serial}"
            raise ImproperlyConfigured(
                f"KMS_CREDENTIALS has an old key list: {lists}. Run install_vault for this directory."
            )


def _check_clock() -> None:
    """Of a vault that answers; one that does not is waited for."""
    try:
        difference = round(time.time() - calls.server_time())
    except VaultError:
        return
    if abs(difference) > CLOCK_SECONDS:
        way = "ahead of" if difference > 0 else "behind"
        raise ImproperlyConfigured(f"This machine's clock is {abs(difference)} s {way} the vault's: set it right.")
