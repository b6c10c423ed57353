"""`readers`: who can read what this container can, by the hosted vault's own list of logins, which no portal stands between.

A role of the vault is listed by its own logins alone, so each container can see it. A login that names this container and is not
its own is somebody who passes for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from kmscore.vaultclient.answers import VaultMisconfigured, VaultRefused, list_of, member_of, moment_of
from kmscore.vaultclient.client import Vault
from kmscore.wording import plural
from kmsruntime.disk import credentials
from kmsruntime.disk.credentials import VaultLogin
from kmsruntime.disk.journal import read_journal
from kmsruntime.errors import Intrusion, printable
from kmsruntime.remote.hosted_vault import log_in, log_in_as_atom, vault_errors

if TYPE_CHECKING:
    from kmsruntime.container import Container

Whose = Literal["own", "coming", "ending", "other", "foreign"]
ENDING_SECONDS: Final = (
    600  # the former login of a renewal is destroyed within seconds; a worker that is away takes longer
)
_WORDS: Final[dict[Whose, str]] = {
    "own": "this container",
    "coming": "this container, a login that it is taking just now",
    "ending": "this container, its former login, which is being destroyed",
    "other": "",
    "foreign": "NOT THIS CONTAINER, though it has its name",
}


@dataclass(frozen=True, slots=True)
class Reader:
    """One login that the vault has for a role. since: its clock, seconds since 1970. node, atom: as its maker named them."""

    accessor: str
    node: str
    atom: str
    since: int
    whose: Whose


@dataclass(frozen=True, slots=True)
class RoleReaders:
    """What can be read by those who log in by it: an environment's values, or an Atom's settings and at-rest keys."""

    mount: str
    id: str
    name: str
    readers: tuple[Reader, ...]


@dataclass(frozen=True, slots=True)
class Readers:
    roles: tuple[RoleReaders, ...]

    @property
    def problem(self) -> Intrusion | None:
        """Somebody passes for this container; to be raised after showing all of them."""
        if not any(reader.whose == "foreign" for role in self.roles for reader in role.readers):
            return None
        return Intrusion(
            "login_foreign",
            "Somebody has a login at the vault in this container's name: revoke this node in the portal, enrol it again, and "
            "change the secrets.",
        )

    def screen(self) -> str:
        """For people. What is named there comes from the portal and the vault."""
        return "\n".join(printable(line) for role in self.roles for line in _lines(role))

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {"roles": [asdict(role) for role in self.roles], "ok": self.problem is None}


def readers(container: Container) -> Readers:
    """Ask the vault: one list for each of this container's roles, one question for each login.

    Raises NotEnrolled, StoreDamaged, the hosted vault's errors, and for a wrapped store that is closed the customer's vault's.
    """
    atom, half = credentials.read_atom(container.home), container.sealed_state.environment()
    held = [login for login in (atom.login, atom.next_login, half.login) if login is not None]
    own, is_taking = {login.accessor for login in held}, read_journal(container.home) is not None
    with vault_errors():
        now = container.hosted.server_time()

        def role(vault: Vault, login: VaultLogin, name: str) -> RoleReaders:
            found = (_reader(accessor, entry, own, atom.node, login, now) for accessor, entry in _listed(vault, login))
            return RoleReaders(login.mount, login.recipient, name, tuple(map(known, found)))

        def known(reader: Reader) -> Reader:
            """The vault has made it already, and this container has not opened it yet."""
            is_new = reader.whose == "foreign" and is_taking and now - reader.since < ENDING_SECONDS
            return replace(reader, whose="coming") if is_new else reader

        roles = [role(log_in_as_atom(container.hosted, atom), atom.login, atom.atom_name)]
        if half.login is not None:
            roles.insert(0, role(log_in(container.hosted, half.login), half.login, half.environment_name))
    return Readers(tuple(roles))


def _listed(vault: Vault, login: VaultLogin) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each accessor with what the vault knows of it; one that ends just now is left out."""
    path = f"auth/{login.mount}/role/{login.recipient}/secret-id"
    for accessor in list_of(member_of(vault.call("LIST", path), "data"), "keys"):
        if not isinstance(accessor, str):
            raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
        with suppress(VaultRefused):
            answer = vault.call("POST", f"{path}-accessor/lookup", {"secret_id_accessor": accessor})
            yield accessor, member_of(answer, "data")


def _reader(accessor: str, entry: dict[str, Any], own: set[str], node: str, login: VaultLogin, now: int) -> Reader:
    since, metadata = moment_of(entry, "creation_time"), entry.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    claimed, atom = (found if isinstance(found := named.get(name), str) else "" for name in ("node", "atom"))
    whose: Whose = "other"
    if accessor in own:
        whose = "own"
    elif claimed == node:
        was_ours = since < login.issued and now - login.issued < ENDING_SECONDS
        whose = "ending" if was_ours else "foreign"
    return Reader(accessor, claimed, atom, since, whose)


def _lines(role: RoleReaders) -> Iterator[str]:
    what = "what this environment holds" if role.mount == "environments" else "this Atom's settings and at-rest keys"
    yield f"{role.name}: {plural(len(role.readers), 'login')} can read {what}."
    for reader in role.readers:
        since = datetime.fromtimestamp(reader.since, UTC)
        words = f" ({_WORDS[reader.whose]})" if _WORDS[reader.whose] else ""
        yield f"  node {reader.node or 'unnamed'} of Atom {reader.atom or 'unnamed'}, since {since:%Y-%m-%d %H:%M} UTC{words}"
