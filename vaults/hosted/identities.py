"""What each identity may do at the hosted vault: the policy texts and the parameters they pin.

Pure data. A policy names every path an identity may use; what is not named here is refused by the vault itself, so
this file is the whole answer to "who could open a value" (DESIGN.md §1, I1 and I3). Written once, by the installer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from kmscore.vaultclient.mounts import (
    ATREST,
    AUTHORITY,
    KEY_LIST,
    OF_ATOMS,
    OF_ENVIRONMENTS,
    OF_RECIPIENTS,
    PLATFORM,
    RecipientMounts,
)

Rule = dict[str, Any]
Paths = dict[str, Rule]

ENVIRONMENT_POLICY: Final = "kms-environment"
ATOM_POLICY: Final = "kms-atom"
IDENTITIES: Final = ("web", "issuer", "provisioner", "rotator", "watch", "shredder", "backup")

# The transit mounts.
KEYS: Final = (*(mounts.transit for mounts in OF_RECIPIENTS), ATREST)
# Shorter than 30 s and a slow runtime loses its enrolment, longer than 15 min and a stolen token lives too long.
MIN_WRAPPING_TTL: Final = "30s"
MAX_WRAPPING_TTL: Final = "15m"


def _role(policy: str) -> dict[str, str]:
    return {
        "token_type": "batch",
        "token_ttl": "5m",
        "token_no_default_policy": "true",
        "token_policies": policy,
        "secret_id_ttl": "768h",
        "secret_id_num_uses": "0",
    }


# What the provisioner sends, exactly: the vault compares strings literally, so "5m" is accepted and 300 is not.
KEY_PARAMETERS: Final[Mapping[str, str]] = {"type": "aes256-gcm96"}
ENVIRONMENT_ROLE: Final[Mapping[str, str]] = _role(ENVIRONMENT_POLICY)
ATOM_ROLE: Final[Mapping[str, str]] = _role(ATOM_POLICY)
# What the shredder sends before it deletes a key; a JSON true would be refused.
ALLOW_DELETION: Final[Mapping[str, str]] = {"deletion_allowed": "true"}


# What the ledger says is written by the worker alone, whose an environment is once; whoever grants or destroys reads it.
_ATOM_ENTRY, _ENVIRONMENT_ENTRY = (f"{AUTHORITY}/data/{kind}/+" for kind in ("atoms", "environments"))
_LEDGER: Final[Paths] = {path: {"capabilities": ["read"]} for path in (_ATOM_ENTRY, _ENVIRONMENT_ENTRY)}
# Everybody reads by which keys the portal's processes sign; the installer's token alone writes it.
_KEY_LIST: Final[Paths] = {f"{AUTHORITY}/data/{KEY_LIST}": {"capabilities": ["read"]}}


def policy_name(identity: str) -> str:
    """The policy of a platform identity: ``web`` has ``kms-web``."""
    return f"kms-{identity}"


def policies(environments_accessor: str, atoms_accessor: str) -> dict[str, str]:
    """Every policy as {name: JSON text}, templated on the accessors of the two runtime auth mounts.

    `role_name` is set by the vault at login from the role itself; neither secret_id metadata nor any portal identity
    can change it (entity metadata could be: measured to leak, so it is not used).
    """
    environment = _own_name(environments_accessor)
    atom = _own_name(atoms_accessor)
    texts = {
        ENVIRONMENT_POLICY: _reader(OF_ENVIRONMENTS, environment),
        ATOM_POLICY: _reader(OF_ATOMS, atom) | _at_rest(atom),
        policy_name("web"): _web(),
        policy_name("issuer"): _issuer(),
        policy_name("provisioner"): _provisioner(),
        policy_name("rotator"): _rotator(),
        policy_name("watch"): _watch(),
        policy_name("shredder"): _shredder(),
        policy_name("backup"): _backup(),
    }
    for identity in IDENTITIES:
        texts[policy_name(identity)] |= _next_secret_id(identity)
    return {name: orjson.dumps({"path": paths | _KEY_LIST}).decode() for name, paths in texts.items()}


def _next_secret_id(identity: str) -> Paths:
    """One of its own role, as the role says it: no other life, number of uses or address."""
    path = f"auth/{PLATFORM}/role/{identity}/secret-id"
    return {path: {"capabilities": ["update"], "denied_parameters": {"*": []}, **_wrapped()}}


def _own_name(accessor: str) -> str:
    return "{{identity.entity.aliases." + accessor + ".metadata.role_name}}"


def _reader(mounts: RecipientMounts, own: str) -> Paths:
    return {
        f"{mounts.transit}/decrypt/{own}": {"capabilities": ["update"]},
        f"{mounts.documents}/data/{own}/+": {"capabilities": ["read"]},
        # Its own role's list: whoever can read sees who else can.
        f"auth/{mounts.logins}/role/{own}/secret-id": {"capabilities": ["list"]},
        f"auth/{mounts.logins}/role/{own}/secret-id-accessor/lookup": {
            "capabilities": ["update"],
            "required_parameters": ["secret_id_accessor"],
            "allowed_parameters": {"secret_id_accessor": []},
        },
    }


def _at_rest(own: str) -> Paths:
    calls = ("datakey/plaintext", "datakey/wrapped", "decrypt", "rewrap")
    return {f"{ATREST}/{call}/{own}": {"capabilities": ["update"]} for call in calls}


def _web() -> Paths:
    paths: Paths = {}
    for mounts in OF_RECIPIENTS:
        rule: Rule = {"capabilities": ["update"], "allowed_parameters": {"bits": ["256"]}}
        paths[f"{mounts.transit}/datakey/plaintext/+"] = rule
        paths[f"{mounts.documents}/data/+/+"] = {"capabilities": ["create", "patch"]}
    return paths


def _issuer() -> Paths:
    # Only wrapped and only with metadata: an accessor that nobody can explain is what the sweep looks for.
    rule: Rule = {
        "capabilities": ["create", "update"],
        "required_parameters": ["metadata"],
        "allowed_parameters": {"metadata": []},
        **_wrapped(),
    }
    return {f"auth/{mounts.logins}/role/+/secret-id": rule for mounts in OF_RECIPIENTS}


def _provisioner() -> Paths:
    paths: Paths = {f"{mount}/keys/+": {"capabilities": ["update"], **_pinned(KEY_PARAMETERS)} for mount in KEYS}
    for mount, role in ((OF_ENVIRONMENTS.logins, ENVIRONMENT_ROLE), (OF_ATOMS.logins, ATOM_ROLE)):
        # `create` without `update`: an existing role is never altered. Creating it again is a 403, and a wrapped
        # role_id that can be had tells "it exists" from "not allowed".
        paths[f"auth/{mount}/role/+"] = {"capabilities": ["create"], **_pinned(role)}
        paths[f"auth/{mount}/role/+/role-id"] = {"capabilities": ["read"], **_wrapped()}
    paths[_ENVIRONMENT_ENTRY] = {"capabilities": ["create", "read"]}
    paths[_ATOM_ENTRY] = {"capabilities": ["create", "read", "patch"]}
    return paths


def _rotator() -> Paths:
    paths: Paths = {}
    for mounts in OF_RECIPIENTS:
        paths[f"{mounts.transit}/keys/+/config"] = {
            "capabilities": ["update"],
            "required_parameters": ["min_decryption_version"],
            "allowed_parameters": {"min_decryption_version": []},
        }
        # Versions and settings of a key, never the key: so that a killed rotation knows where it was.
        paths[f"{mounts.transit}/keys/+"] = {"capabilities": ["read"]}
        paths[f"{mounts.transit}/rewrap/+"] = {"capabilities": ["update"]}
        paths[f"{mounts.documents}/data/+/+"] = {"capabilities": ["read", "patch"]}
    for mount in KEYS:
        paths[f"{mount}/keys/+/rotate"] = {"capabilities": ["update"], "denied_parameters": {"*": []}}
    return paths


def _watch() -> Paths:
    paths: Paths = {}
    for mount in (mounts.logins for mounts in OF_RECIPIENTS):
        # From the vault's own list, not from the database's: a login may hide there.
        paths[f"auth/{mount}/role"] = {"capabilities": ["list"]}
        paths[f"auth/{mount}/role/+/secret-id"] = {"capabilities": ["list"]}
        paths[f"auth/{mount}/role/+/secret-id-accessor/lookup"] = {"capabilities": ["update"]}
        paths[f"auth/{mount}/role/+/secret-id-accessor/destroy"] = {"capabilities": ["update"]}
        paths[f"auth/{mount}/role/+"] = {"capabilities": ["delete"]}
    return paths | _LEDGER


def _shredder() -> Paths:
    paths: Paths = {f"{mounts.documents}/metadata/+/+": {"capabilities": ["delete"]} for mounts in OF_RECIPIENTS}
    for mount in KEYS:
        paths[f"{mount}/keys/+/config"] = {"capabilities": ["update"], **_pinned(ALLOW_DELETION)}
        paths[f"{mount}/keys/+"] = {"capabilities": ["delete"]}
    # All of an account's keys, whatever the rows name: nobody certifies what was not destroyed.
    for kind in ("atoms", "environments"):
        paths[f"{AUTHORITY}/metadata/{kind}"] = {"capabilities": ["list"]}
    return paths | _LEDGER


def _backup() -> Paths:
    # A snapshot is encrypted under the vault's seal; putting one back needs an operator's own token.
    return {"sys/storage/raft/snapshot": {"capabilities": ["read"]}}


def _pinned(parameters: Mapping[str, str]) -> Rule:
    return {
        "required_parameters": sorted(parameters),
        "allowed_parameters": {name: [value] for name, value in parameters.items()},
    }


def _wrapped() -> Rule:
    return {"min_wrapping_ttl": MIN_WRAPPING_TTL, "max_wrapping_ttl": MAX_WRAPPING_TTL}
