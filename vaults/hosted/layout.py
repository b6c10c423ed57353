"""Installs the portal's layout in a hosted vault: mounts, policies and the platform's own roles.

Pure of Django; run by `manage.py install_vault` and by the embedded stack with a token that may do everything, once.
Idempotent: what is there and ours is left alone or brought back to what is written here. It never touches a mount that
is not ours, never reads a document and never prints.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kmscore.vaultclient.client import Vault, VaultError, VaultRefused, VaultUnavailable
from vaults.hosted.credentials import Credential
from vaults.hosted.identities import (
    ALLOW_DELETION,
    ATOM_POLICY,
    ATOM_ROLE,
    ATOMS,
    ATREST,
    DATAKEYS,
    ENVIRONMENT_POLICY,
    ENVIRONMENT_ROLE,
    ENVIRONMENTS,
    IDENTITIES,
    INTRANSIT,
    KEY_PARAMETERS,
    PLATFORM,
    policies,
    policy_name,
)

__all__ = [
    "ALLOW_DELETION",
    "ATOMS",
    "ATOM_POLICY",
    "ATOM_ROLE",
    "ATREST",
    "DATAKEYS",
    "ENVIRONMENTS",
    "ENVIRONMENT_POLICY",
    "ENVIRONMENT_ROLE",
    "IDENTITIES",
    "INTRANSIT",
    "KEY_PARAMETERS",
    "LAYOUT_VERSION",
    "PLATFORM",
    "LayoutForeign",
    "LayoutNewer",
    "LayoutOlder",
    "LayoutRefused",
    "create_role",
    "install",
    "installed_version",
    "issue_credential",
    "revoke_credential",
    "still_good",
]

LAYOUT_VERSION: Final = 2
UPGRADED: Final = (1,)  # earlier versions whose mounts are the same: installing writes policies and descriptions anew
CREDENTIAL_TTL: Final = timedelta(hours=768)
_MAX_TTL: Final = "768h"  # said on the mounts too: a lower default of the server would silently shorten secret_ids
_DESCRIPTION: Final = re.compile(r"KMS Portal, layout (\d+): ")
_PURPOSE: Final = {
    f"{INTRANSIT}/": "wraps the data keys of what is saved for a recipient",
    f"{DATAKEYS}/": "wrapped data keys, by recipient",
    f"{ATREST}/": "at-rest keys of the Atoms",
    f"auth/{PLATFORM}/": "the portal's own identities",
    f"auth/{ENVIRONMENTS}/": "logins of runtimes to their environment",
    f"auth/{ATOMS}/": "logins of runtimes to their Atom",
}


class LayoutRefused(VaultError):
    """The vault holds something this program must not write over; the text says what to do."""


class LayoutOlder(LayoutRefused):
    """The vault was installed by an earlier version of the portal."""


class LayoutNewer(LayoutRefused):
    """The vault was installed by a later version of the portal."""


class LayoutForeign(LayoutRefused):
    """A mount of ours has a name that somebody else already uses."""


@dataclass(frozen=True, slots=True)
class _Mount:
    path: str  # as sys/mounts knows it: "intransit/" or "auth/platform/"
    kind: str
    settings: Mapping[str, Any]


_MOUNTS: Final = (
    _Mount(f"{INTRANSIT}/", "transit", {}),
    _Mount(f"{DATAKEYS}/", "kv", {"options": {"version": "2"}}),
    _Mount(f"{ATREST}/", "transit", {}),
    _Mount(f"auth/{PLATFORM}/", "approle", {"config": {"max_lease_ttl": _MAX_TTL}}),
    _Mount(f"auth/{ENVIRONMENTS}/", "approle", {"config": {"max_lease_ttl": _MAX_TTL}}),
    _Mount(f"auth/{ATOMS}/", "approle", {"config": {"max_lease_ttl": _MAX_TTL}}),
)


def installed_version(vault: Vault) -> int | None:
    """The layout version in the vault, None when nothing of ours is there.

    Read from the descriptions of our mounts, so a half-finished installation already has its version, and a half-finished
    upgrade still the earlier one.
    Raises LayoutForeign when a name is taken by somebody else or versions are mixed, and Vault.call()'s errors.
    """
    versions = {_version_of(mount, present) for mount, present in _present(vault)}
    if len(versions) > 1 and not versions <= {*UPGRADED, LAYOUT_VERSION}:
        raise LayoutForeign("layout_mixed", "The vault holds parts of different layouts; nothing was changed.")
    return min(versions, default=None)


def install(vault: Vault) -> None:
    """Bring the vault to LAYOUT_VERSION. `vault` carries a root-like token.

    The mounts' descriptions tell the version, so they are written last.
    Raises LayoutOlder, LayoutNewer or LayoutForeign before anything is written, and Vault.call()'s errors.
    """
    _refuse_other(installed_version(vault))
    present = {mount.path for mount, _ in _present(vault)}
    for mount in _MOUNTS:
        if mount.path not in present:
            vault.call("POST", f"sys/{_sys_path(mount.path)}", _mount_request(mount))
    _settings(vault)
    accessors = {mount.path: str(found["accessor"]) for mount, found in _present(vault)}
    texts = policies(accessors[f"auth/{ENVIRONMENTS}/"], accessors[f"auth/{ATOMS}/"])
    for name, text in texts.items():
        vault.call("PUT", f"sys/policies/acl/{name}", {"policy": text})
    for identity in IDENTITIES:
        vault.call("POST", f"auth/{PLATFORM}/role/{identity}", _platform_role(identity))
    for mount, found in _present(vault):
        if found["description"] != _description(mount):
            vault.call("POST", f"sys/mounts/{mount.path.rstrip('/')}/tune", {"description": _description(mount)})


def create_role(vault: Vault, mount: str, recipient: str, role: Mapping[str, str]) -> None:
    """Make a recipient's role, as the provisioner; one that exists is left as it is.

    mount: ``environments`` with ENVIRONMENT_ROLE or ``atoms`` with ATOM_ROLE. Raises Vault.call()'s errors.
    """
    try:
        vault.call("POST", f"auth/{mount}/role/{recipient}", role)
        return
    except VaultRefused as refusal:
        if refusal.status != 403:
            raise
        refused = refusal
    # The provisioner may create and never alter, so "exists" is a 403 too; only a role that exists has a role_id.
    try:
        vault.wrapped("GET", f"auth/{mount}/role/{recipient}/role-id", seconds=30)
    except VaultRefused:
        raise refused from None


def issue_credential(vault: Vault, identity: str) -> Credential:
    """A new secret_id for a platform identity, valid CREDENTIAL_TTL from now. Earlier ones stay valid."""
    role = f"auth/{PLATFORM}/role/{identity}"
    role_id = str(vault.call("GET", f"{role}/role-id")["data"]["role_id"])
    secret_id = str(vault.call("POST", f"{role}/secret-id", {})["data"]["secret_id"])
    return Credential(role_id, secret_id, datetime.now(UTC).replace(microsecond=0) + CREDENTIAL_TTL)


def revoke_credential(vault: Vault, identity: str, credential: Credential) -> None:
    """Destroy one secret_id; one that is already gone is not an error. Tokens made with it live on for ≤ 15 minutes."""
    try:
        vault.call("POST", f"auth/{PLATFORM}/role/{identity}/secret-id/destroy", {"secret_id": credential.secret_id})
    except VaultRefused:
        return


def still_good(vault: Vault, credential: Credential) -> bool:
    """Whether a credential logs in and has more than a third of its life left."""
    if credential.expires - datetime.now(UTC) < CREDENTIAL_TTL / 3:
        return False
    try:
        vault.with_token("").login(PLATFORM, credential.role_id, credential.secret_id)
    except VaultRefused:
        return False
    return True


def _present(vault: Vault) -> list[tuple[_Mount, dict[str, Any]]]:
    engines = vault.call("GET", "sys/mounts")["data"]
    logins = vault.call("GET", "sys/auth")["data"]
    found = engines | {f"auth/{path}": mount for path, mount in logins.items()}
    return [(mount, found[mount.path]) for mount in _MOUNTS if mount.path in found]


def _version_of(mount: _Mount, present: Mapping[str, Any]) -> int:
    match = _DESCRIPTION.match(str(present.get("description") or ""))
    if match is None or present.get("type") != mount.kind:
        raise LayoutForeign(
            "mount_taken", f"The vault has a mount {mount.path} that is not the portal's; nothing was changed."
        )
    return int(match.group(1))


def _refuse_other(version: int | None) -> None:
    if version in (None, *UPGRADED, LAYOUT_VERSION):
        return
    assert version is not None
    both = f"The vault holds layout {version}, this program writes layout {LAYOUT_VERSION}"
    if version < LAYOUT_VERSION:
        raise LayoutOlder("layout_older", f"{both}: see docs/operations.md for the way up; nothing was changed.")
    raise LayoutNewer("layout_newer", f"{both}: install the newer version of the portal; nothing was changed.")


def _sys_path(path: str) -> str:
    return path.rstrip("/") if path.startswith("auth/") else f"mounts/{path.rstrip('/')}"


def _mount_request(mount: _Mount) -> dict[str, Any]:
    return {"type": mount.kind, "description": _description(mount), **mount.settings}


def _description(mount: _Mount) -> str:
    return f"KMS Portal, layout {LAYOUT_VERSION}: {_PURPOSE[mount.path]}"


def _settings(vault: Vault) -> None:
    for mount in (INTRANSIT, ATREST):
        # With upsert on, `encrypt` on a missing key would make one that nobody asked for.
        vault.call("POST", f"{mount}/config/keys", {"disable_upsert": True})
    # Each version of a document is stored whole; two are enough to undo the last write by hand.
    _when_ready(vault, f"{DATAKEYS}/config", {"max_versions": 2})
    for mount in (ENVIRONMENTS, ATOMS):
        # Otherwise whoever knows a role_id can lock the runtime out with five wrong secret_ids.
        vault.call("POST", f"sys/mounts/auth/{mount}/tune", {"user_lockout_config": {"lockout_disable": True}})


def _when_ready(vault: Vault, path: str, body: Mapping[str, Any]) -> None:
    """A kv v2 mount refuses writes for a moment while it sets itself up."""
    for pause in (0.1, 0.2, 0.4, 0.8, 1.6):
        try:
            vault.call("POST", path, body)
            return
        except (VaultRefused, VaultUnavailable):
            time.sleep(pause)
    vault.call("POST", path, body)


def _platform_role(identity: str) -> dict[str, Any]:
    return {
        "token_type": "batch",
        "token_ttl": "15m",
        "token_no_default_policy": "true",
        "token_policies": policy_name(identity),
        "secret_id_ttl": _MAX_TTL,
        "secret_id_num_uses": "0",
    }
