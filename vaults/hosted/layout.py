"""Installs the portal's layout in a hosted vault: mounts, policies and the platform's own roles.

Pure of Django; run by `manage.py install_vault` and by the embedded stack with a token that may do everything, once.
Idempotent: what is there and ours is left alone or brought back to what is written here. It never touches a mount that
is not ours, never reads a document and never prints.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hvac import Client

from kmscore.vaultclient.answers import VaultError, VaultRefused, VaultUnavailable, member_of
from kmscore.vaultclient.mounts import ATREST, AUTHORITY, OF_ATOMS, OF_ENVIRONMENTS, OF_RECIPIENTS, PLATFORM
from vaults.hosted.identities import IDENTITIES, KEYS, MIN_WRAPPING_TTL, policies, policy_name

LAYOUT_VERSION: Final = 3
MAX_TTL: Final = "768h"  # said on the mounts too: a lower default of the server would silently shorten secret_ids
_DESCRIPTION: Final = re.compile(r"KMS Portal, layout (\d+): ")
DOCUMENTS: Final = tuple(mounts.documents for mounts in OF_RECIPIENTS)
LOGINS: Final = tuple(mounts.logins for mounts in OF_RECIPIENTS)
_PURPOSE: Final = {
    f"{OF_ENVIRONMENTS.transit}/": "wraps the data keys of what is saved for an environment",
    f"{OF_ENVIRONMENTS.documents}/": "wrapped data keys, by environment",
    f"{OF_ATOMS.transit}/": "wraps the data keys of what is saved for an Atom",
    f"{OF_ATOMS.documents}/": "wrapped data keys, by Atom",
    f"{AUTHORITY}/": "the key list, by which the portal's processes believe each other",
    f"{ATREST}/": "at-rest keys of the Atoms",
    f"auth/{PLATFORM}/": "the portal's own identities",
    f"auth/{OF_ENVIRONMENTS.logins}/": "logins of runtimes to their environment",
    f"auth/{OF_ATOMS.logins}/": "logins of runtimes to their Atom",
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
    *(_Mount(f"{path}/", "transit", {}) for path in KEYS),
    *(_Mount(f"{path}/", "kv", {"options": {"version": "2"}}) for path in (*DOCUMENTS, AUTHORITY)),
    *(_Mount(f"auth/{path}/", "approle", {"config": {"max_lease_ttl": MAX_TTL}}) for path in (PLATFORM, *LOGINS)),
)


def installed_version(client: Client) -> int | None:
    """The layout version in the vault, None when nothing of ours is there.

    Read from the descriptions of our mounts, so a half-finished installation already has its version. Raises
    LayoutForeign when a name is taken by somebody else or versions are mixed, and the vault's errors.
    """
    versions = {_version_of(mount, present) for mount, present in _present(client)}
    if len(versions) > 1:
        raise LayoutForeign("layout_mixed", "The vault holds parts of different layouts; nothing was changed.")
    return next(iter(versions), None)


def install(client: Client) -> None:
    """Bring the vault to LAYOUT_VERSION. The client has a root-like token.

    Raises LayoutOlder, LayoutNewer or LayoutForeign before anything is written, and the vault's errors.
    """
    _refuse_other(installed_version(client))
    present = {mount.path for mount, _ in _present(client)}
    for mount in _MOUNTS:
        if mount.path not in present:
            _enable(client, mount)
    _settings(client)
    accessors = {mount.path: str(found["accessor"]) for mount, found in _present(client)}
    texts = policies(*(accessors[f"auth/{path}/"] for path in LOGINS))
    for name, text in texts.items():
        client.sys.create_or_update_acl_policy(name, text)
    for identity in IDENTITIES:
        _write_role(client, PLATFORM, identity, _platform_role(identity))


def create_role(client: Client, mount: str, recipient: str, role: Mapping[str, str]) -> None:
    """Make a recipient's role, as the provisioner; one that exists is left as it is.

    mount: ``environments`` with ENVIRONMENT_ROLE or ``atoms`` with ATOM_ROLE. Raises the vault's errors.
    """
    try:
        _write_role(client, mount, recipient, role)
        return
    except VaultRefused as refusal:
        if refusal.status != 403:
            raise
        refused = refusal
    # The provisioner may create and never alter, so "exists" is a 403 too; only a role that exists has a role_id.
    try:
        client.read(f"auth/{mount}/role/{recipient}/role-id", wrap_ttl=MIN_WRAPPING_TTL)
    except VaultRefused:
        raise refused from None


def _write_role(client: Client, mount: str, name: str, role: Mapping[str, str]) -> None:
    listed = {**role, "token_policies": [role["token_policies"]]}  # hvac joins them: a text's letters, too
    client.auth.approle.create_or_update_approle(name, mount_point=mount, **listed)


def _present(client: Client) -> list[tuple[_Mount, dict[str, Any]]]:
    engines = member_of(client.sys.list_mounted_secrets_engines(), "data")
    logins = member_of(client.sys.list_auth_methods(), "data")
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
    if version is None or version == LAYOUT_VERSION:
        return
    both = f"The vault holds layout {version}, this program writes layout {LAYOUT_VERSION}"
    if version < LAYOUT_VERSION:
        raise LayoutOlder("layout_older", f"{both}, and nothing was changed: install into a new vault.")
    raise LayoutNewer("layout_newer", f"{both}: install the newer version of the portal; nothing was changed.")


def _enable(client: Client, mount: _Mount) -> None:
    _, auth, name = mount.path.rstrip("/").rpartition("auth/")
    enable = client.sys.enable_auth_method if auth else client.sys.enable_secrets_engine
    enable(mount.kind, path=name, description=_description(mount), **mount.settings)


def _description(mount: _Mount) -> str:
    return f"KMS Portal, layout {LAYOUT_VERSION}: {_PURPOSE[mount.path]}"


def _settings(client: Client) -> None:
    for mount in KEYS:
        # With upsert on, `encrypt` on a missing key would make one that nobody asked for.
        client.write_data(f"{mount}/config/keys", data={"disable_upsert": True})
    # Each version of a document is stored whole; two are enough to undo the last write by hand.
    for mount in DOCUMENTS:
        _when_ready(partial(client.secrets.kv.v2.configure, max_versions=2, mount_point=mount))
    _when_ready(lambda: client.secrets.kv.v2.configure(max_versions=10, cas_required=True, mount_point=AUTHORITY))
    for mount in (PLATFORM, *LOGINS):
        # Otherwise whoever knows a role_id can lock a runtime, or a part of the portal, out with five wrong secret_ids.
        client.sys.tune_mount_configuration(f"auth/{mount}", user_lockout_config={"lockout_disable": True})


def _when_ready(write: Callable[[], object]) -> None:
    """A kv v2 mount refuses writes for a moment while it sets itself up."""
    for pause in (0.1, 0.2, 0.4, 0.8, 1.6):
        try:
            write()
            return
        except (VaultRefused, VaultUnavailable):
            time.sleep(pause)
    write()


def _platform_role(identity: str) -> dict[str, str]:
    return {
        "token_type": "batch",
        "token_ttl": "15m",
        "token_no_default_policy": "true",
        "token_policies": policy_name(identity),
        "secret_id_ttl": MAX_TTL,
        "secret_id_num_uses": "0",
    }
