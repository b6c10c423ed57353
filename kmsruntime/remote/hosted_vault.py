"""The hosted vault as this program uses it: its errors in our words, and a client from the enrolled addresses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmscore.vaultclient.answers import DataKeysBroken, VaultError, VaultMisconfigured, VaultRefused, VaultUnavailable
from kmscore.vaultclient.client import Vault
from kmsruntime.disk.credentials import AtomCredentials, VaultLogin
from kmsruntime.disk.home import Config
from kmsruntime.errors import HostedVaultMisconfigured, HostedVaultRefused, HostedVaultUnavailable, RuntimeProblem

LOGIN_REFUSED = "login_refused"


def hosted_vault(config: Config) -> Vault:
    """A client without a token. Raises HostedVaultMisconfigured for an unusable address or CA file."""
    with vault_errors():
        return Vault(config.vault, ca=config.vault_ca or None)


def log_in(vault: Vault, login: VaultLogin) -> Vault:
    """The same server with a token of the login's role, good for five minutes.

    Raises kmscore.vaultclient.answers' errors; VaultRefused with LOGIN_REFUSED when role_id or secret_id is no good any more.
    """
    try:
        token = vault.login(login.mount, login.role_id, login.secret_id).token
    except VaultRefused as refusal:
        status = refusal.status
    else:
        return vault.with_token(token)
    raise VaultRefused(LOGIN_REFUSED, "The vault does not accept this container's credentials.", status)


def log_in_as_atom(vault: Vault, atom: AtomCredentials) -> Vault:
    """As `log_in`, with whichever of the Atom's logins is good while a hand-over may be confirmed or not."""
    try:
        return log_in(vault, atom.login)
    except VaultRefused as refusal:
        if refusal.code != LOGIN_REFUSED or atom.next_login is None:
            raise
    return log_in(vault, atom.next_login)


@contextmanager
def vault_errors() -> Iterator[None]:
    """Turn kmscore.vaultclient.answers' errors into this program's: what is wrong, and what to do."""
    problem: RuntimeProblem | None = None
    try:
        yield
    except VaultError as error:
        problem = vault_problem(error)
    if problem is not None:
        raise problem


def vault_problem(error: VaultError) -> RuntimeProblem:
    """The same error for people. DataKeysBroken is no such error: it speaks of values, not of the vault."""
    if isinstance(error, DataKeysBroken):
        raise TypeError("broken data keys are told by value") from None
    if isinstance(error, VaultUnavailable):
        return HostedVaultUnavailable(
            error.code, f"{error.sentence} It is asked again later; what this container holds stays usable."
        )
    if isinstance(error, VaultRefused):
        return HostedVaultRefused(error.code, f"{error.sentence} If it goes on, enrol this container again.")
    if isinstance(error, VaultMisconfigured):
        return HostedVaultMisconfigured(
            error.code, f"{error.sentence} Check the vault's address and CA file given at enrolment."
        )
    return HostedVaultMisconfigured(error.code, error.sentence)
