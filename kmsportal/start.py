"""What a production process looks at as it starts, besides its settings: that its credentials are its own, and its clock."""

import time
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from kmscore.vaultclient.answers import VaultError
from vaults.hosted import calls
from vaults.hosted.credentials import FILES, CredentialsBroken, read_credentials

CLOCK_SECONDS = 60  # what a clock may differ by from the vault's: times are signed, and decide


def check(file: str) -> None:
    """file: the name in FILES of what this process has to hold. Raises ImproperlyConfigured."""
    if settings.PRODUCTION:
        _check_credentials(file)
        _check_clock()


def file_of(queues: Sequence[str]) -> str:
    """Of a worker: shredding is another process's than all other work."""
    return "shredder.json" if list(queues) == ["shred"] else "worker.json"


def _check_credentials(file: str) -> None:
    """The parts of the portal are apart because none holds another's credentials."""
    if not settings.VAULT_CREDENTIALS:
        raise ImproperlyConfigured("Set KMS_VAULT_CREDENTIALS.")
    try:
        held = set(read_credentials(Path(settings.VAULT_CREDENTIALS)).identities)
    except CredentialsBroken as problem:
        raise ImproperlyConfigured(f"KMS_VAULT_CREDENTIALS: {problem}") from None
    if held != set(FILES[file]):
        known = next((name for name, identities in FILES.items() if held == set(identities)), "another set")
        raise ImproperlyConfigured(f"KMS_VAULT_CREDENTIALS holds {known}, and this process is to have {file} alone.")


def _check_clock() -> None:
    """Of a vault that answers; one that does not is waited for."""
    try:
        difference = round(time.time() - calls.server_time())
    except VaultError:
        return
    if abs(difference) > CLOCK_SECONDS:
        way = "ahead of" if difference > 0 else "behind"
        raise ImproperlyConfigured(f"This machine's clock is {abs(difference)} s {way} the vault's: set it right.")
