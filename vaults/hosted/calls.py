"""The portal's side of the hosted vault: each identity logged in, each of its few calls.

A process holds the identities of its own credentials file and no others (web: web, issuer; worker: provisioner, rotator,
revoker). Tokens are batch tokens of 15 minutes, kept in memory.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
from django.conf import settings

from kmscore.vaultclient.client import DataKey, Vault, VaultError, VaultMisconfigured, VaultRefused, Wrapping
from operations import load
from vaults.hosted import layout
from vaults.hosted.credentials import CredentialsBroken, read_credentials

T = TypeVar("T")

PEOPLE_WAIT_FOR = ("web", "issuer")
_lock = threading.Lock()
_server: Vault | None = None
_tokens: dict[str, tuple[Vault, float]] = {}
_files: tuple[Path, ...] = ()  # what `hold` named


class IdentityMissing(VaultError):
    """This process was not given the identity it needs; an operator has to look at KMS_VAULT_CREDENTIALS."""


def as_identity(name: str, call: Callable[[Vault], T]) -> T:
    """Do `call` with a client logged in as a platform identity.

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


def _as_identity(name: str, call: Callable[[Vault], T]) -> T:
    vault, fresh = _logged_in(name)
    try:
        return call(vault)
    except VaultRefused as refusal:
        if fresh or refusal.status != 403:
            raise
    forget(name)
    return call(_logged_in(name)[0])


def forget(name: str | None = None) -> None:
    """Drop kept tokens (and, without a name, the connections): after a fork, and in tests that change servers."""
    global _server
    with _lock:
        if name is None:
            _tokens.clear()
            _server = None
        else:
            _tokens.pop(name, None)


def _logged_in(name: str) -> tuple[Vault, bool]:
    with _lock:
        kept = _tokens.get(name)
        if kept and kept[1] > time.monotonic():
            return kept[0], False
    server = _get_server()
    role_id, secret_id = _credentials(name)
    login = server.login("platform", role_id, secret_id)
    vault = server.with_token(login.token)
    with _lock:
        _tokens[name] = (vault, time.monotonic() + login.seconds * 0.8)
    return vault, True


def _get_server() -> Vault:
    global _server
    with _lock:
        if _server is None:
            _server = Vault(settings.VAULT_ADDR, ca=settings.VAULT_CA)
        return _server


def hold(files: Sequence[Path]) -> None:
    """Hold the identities of these credentials files instead: for an operator's command, never for a server's process."""
    global _files
    forget()
    _files = tuple(files)


def _credentials(name: str) -> tuple[str, str]:
    identity = None
    for file in _files or (Path(settings.VAULT_CREDENTIALS or "/nonexistent"),):
        with suppress(CredentialsBroken):
            identity = identity or read_credentials(file).identities.get(name)
    if identity is None:
        raise IdentityMissing("identity_missing", f"KMS_VAULT_CREDENTIALS of this process gives no identity {name}.")
    return identity.role_id, identity.secret_id


# -- web ----------------------------------------------------------------------------------------------------------------


def new_data_key(recipient: object) -> DataKey:
    """A data key of a recipient (identity web)."""
    return as_identity("web", lambda vault: vault.new_data_key("intransit", str(recipient)))


def store_wrapped_keys(recipient: object, document: int, wrapped: Mapping[str, str]) -> None:
    """Add wrapped data keys {data key id: wrapped} to a recipient's document (identity web)."""
    as_identity("web", lambda vault: vault.add_to_document("datakeys", f"{recipient}/{document}", wrapped))


# -- issuer -------------------------------------------------------------------------------------------------------------


def wrapped_secret_id(mount: str, recipient: object, metadata: Mapping[str, str], seconds: int) -> Wrapping:
    """A response-wrapped secret_id for a recipient's role; its accessor is the wrapping's (identity issuer)."""
    body = {"metadata": orjson.dumps(dict(metadata)).decode()}
    wrapping = as_identity(
        "issuer",
        lambda vault: vault.wrapped("POST", f"auth/{mount}/role/{recipient}/secret-id", body, seconds=seconds),
    )
    if not wrapping.accessor:
        raise VaultMisconfigured("answer_invalid", "The vault issued a secret_id without telling its accessor.")
    return wrapping


# -- provisioner --------------------------------------------------------------------------------------------------------


def provision_environment(environment: object) -> None:
    """Key and role of an environment; doing it again changes nothing (identity provisioner)."""
    _provision(("intransit",), "environments", environment, layout.ENVIRONMENT_ROLE)


def provision_atom(atom: object) -> None:
    """Keys (in transit and at rest) and role of an Atom; doing it again changes nothing (identity provisioner)."""
    _provision(("intransit", "atrest"), "atoms", atom, layout.ATOM_ROLE)


def _provision(key_mounts: tuple[str, ...], auth_mount: str, recipient: object, role: Mapping[str, str]) -> None:
    def call(vault: Vault) -> None:
        for mount in key_mounts:
            vault.call("POST", f"{mount}/keys/{recipient}", {"type": "aes256-gcm96"})
        layout.create_role(vault, auth_mount, str(recipient), role)

    as_identity("provisioner", call)


def wrapped_role_id(mount: str, recipient: object, seconds: int) -> str:
    """A wrapping token for a recipient's role_id (identity provisioner)."""
    path = f"auth/{mount}/role/{recipient}/role-id"
    return as_identity("provisioner", lambda vault: vault.wrapped("GET", path, seconds=seconds)).token


# -- rotator ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyVersions:
    """Of a recipient's in-transit key: the newest, and the oldest whose wrapped data keys the vault still opens."""

    latest: int
    oldest: int


def key_versions(recipient: object) -> KeyVersions:
    """The versions of a recipient's in-transit key (identity rotator). Raises VaultRefused (404) when there is no key."""
    data = as_identity("rotator", lambda vault: vault.call("GET", f"intransit/keys/{recipient}")).get("data")
    found = data if isinstance(data, dict) else {}
    latest, oldest = found.get("latest_version"), found.get("min_decryption_version")
    if type(latest) is not int or type(oldest) is not int:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return KeyVersions(latest, oldest)


def rotate_key(recipient: object) -> None:
    """Add a version to a recipient's in-transit key; each call adds one (identity rotator)."""
    as_identity("rotator", lambda vault: vault.call("POST", f"intransit/keys/{recipient}/rotate"))


def refuse_versions_before(recipient: object, version: int) -> None:
    """Let the vault open only what this version or a later one wrapped (identity rotator)."""
    body = {"min_decryption_version": version}
    as_identity("rotator", lambda vault: vault.call("POST", f"intransit/keys/{recipient}/config", body))


def read_document(recipient: object, document: int) -> dict[str, str] | None:
    """A recipient's document {data key id: wrapped data key}, None when there is none (identity rotator)."""
    try:
        return as_identity("rotator", lambda vault: vault.read_document("datakeys", f"{recipient}/{document}"))
    except VaultRefused as refusal:
        if refusal.status != 404:
            raise
    return None


def patch_document(recipient: object, document: int, entries: Mapping[str, str | None]) -> bool:
    """Merge at most 400 entries; None takes one out. False: there is no such document (identity rotator)."""
    path = f"{recipient}/{document}"
    return as_identity("rotator", lambda vault: vault.patch_document("datakeys", path, entries))


def rewrap(recipient: object, wrapped: Sequence[str]) -> list[str]:
    """At most 400 wrapped data keys under the newest version, in order (identity rotator). Raises DataKeysBroken."""
    return as_identity("rotator", lambda vault: vault.rewrap_data_keys("intransit", str(recipient), wrapped))


# -- revoker ------------------------------------------------------------------------------------------------------------


def roles(mount: str) -> list[str]:
    """The names of all roles of a mount (identity revoker)."""
    return as_identity("revoker", lambda vault: _listed(vault, f"auth/{mount}/role"))


def secret_ids(mount: str, role: str) -> list[str]:
    """The accessors of a role's secret_ids; none when there is no such role (identity revoker)."""
    return as_identity("revoker", lambda vault: _listed(vault, f"auth/{mount}/role/{role}/secret-id"))


def _listed(vault: Vault, path: str) -> list[str]:
    try:
        found = vault.call("LIST", path).get("data", {}).get("keys", [])
    except VaultRefused as refusal:
        if refusal.status not in (400, 404):  # nothing there; the role does not exist
            raise
        return []
    return [str(name) for name in found]


def look_up_secret_id(mount: str, recipient: object, accessor: str) -> dict[str, Any] | None:
    """What the vault knows of a secret_id (`metadata`, `creation_time` …); None when it is gone (identity revoker)."""
    path = f"auth/{mount}/role/{recipient}/secret-id-accessor/lookup"

    def call(vault: Vault) -> dict[str, Any] | None:
        try:
            found = vault.call("POST", path, {"secret_id_accessor": accessor}).get("data")
            return found if isinstance(found, dict) else {}
        except VaultError as error:
            failure = error
        if failure.status == 404:
            return None
        # Without its role the vault answers 500, as it does when it is failing; then it would not list either.
        if failure.status == 500 and accessor not in _listed(vault, f"auth/{mount}/role/{recipient}/secret-id"):
            return None
        raise failure

    return as_identity("revoker", call)


def destroy_secret_id(mount: str, recipient: object, accessor: str) -> None:
    """Destroy a secret_id; one that is gone already is as good (identity revoker)."""
    path = f"auth/{mount}/role/{recipient}/secret-id-accessor/destroy"
    try:
        as_identity("revoker", lambda vault: vault.call("POST", path, {"secret_id_accessor": accessor}))
        return
    except VaultError as error:
        failure = error
    # "Not there" is a 500 too, so that it has to be asked: else a second run would wait for the vault for ever.
    if failure.status == 403 or look_up_secret_id(mount, recipient, accessor) is not None:
        raise failure


def delete_role(mount: str, recipient: object) -> None:
    """Delete a recipient's role: nobody logs in with it any more; one that is gone is as good (identity revoker)."""
    as_identity("revoker", lambda vault: vault.call("DELETE", f"auth/{mount}/role/{recipient}"))


# -- shredder -----------------------------------------------------------------------------------------------------------


def delete_keys(recipient: object, *, at_rest: bool) -> None:
    """Delete a recipient's key in transit, and an Atom's at rest; those that are gone are as good (identity shredder).

    Raises VaultRefused `key_alive` when the vault says that there is still a key.
    """
    for mount in ("intransit", "atrest") if at_rest else ("intransit",):
        as_identity("shredder", lambda vault, mount=mount: _delete_key(vault, f"{mount}/keys/{recipient}"))  # type: ignore[misc]


def _delete_key(vault: Vault, path: str) -> None:
    # "No such key" is a 400 for both calls, as is "deletion is not allowed"; so the first one's answer decides.
    status, _ = vault.status_of("POST", f"{path}/config", layout.ALLOW_DELETION)
    if status in (400, 404):
        return
    vault.call("DELETE", path)


def delete_document(recipient: object, document: int) -> None:
    """Delete a document of wrapped data keys with all its versions; one that is gone is as good (identity shredder)."""
    as_identity("shredder", lambda vault: vault.call("DELETE", f"datakeys/metadata/{recipient}/{document}"))


def rewrap_status(recipient: object, wrapped: str) -> int:
    """How the vault answers to a rewrap of one wrapped data key: 200 while its key lives, 400 after (identity rotator).

    Raises VaultUnavailable.
    """

    def call(vault: Vault) -> int:
        status, _ = vault.status_of("POST", f"intransit/rewrap/{recipient}", {"ciphertext": wrapped})
        if status in (200, 400, 404):
            return status
        vault.call("POST", f"intransit/rewrap/{recipient}", {"ciphertext": wrapped})  # raises what this status means
        return 200

    return as_identity("rotator", call)


def health() -> str:
    """`ok`, or the code of what is wrong; asks without a token."""
    try:
        _get_server().call("GET", "sys/health")
    except VaultError as error:
        return error.code
    return "ok"
