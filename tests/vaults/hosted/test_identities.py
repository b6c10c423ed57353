"""What each identity may do at the vault, and nothing else (DESIGN.md §1, I1 and I3), asked of a real OpenBao.

Every action is tried with every identity's own token: an identity may do exactly what its line in MAY says.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.vaults.hosted.cast import Cast, status
from vaults.hosted import identities

ENVIRONMENT_ROLE = dict(identities.ENVIRONMENT_ROLE)
ATOM_ROLE = dict(identities.ATOM_ROLE)
POLICY = {"policy": 'path "*" { capabilities = ["sudo", "read", "update"] }'}

# name: (method, path, body, wrapping ttl). {a} and {b} are environments, {p} and {q} Atoms, {gone} was never made.
_NEW_OWNER = {"data": {"account": "nobody"}, "options": {"cas": 9}}
Action = tuple[str, str, dict[str, Any] | None, str | None]
ACTIONS: dict[str, Action] = {
    # data keys
    "make a data key": ("POST", "intransit/datakey/plaintext/{a}", {"bits": "256"}, None),
    "make a data key without bits": ("POST", "intransit/datakey/plaintext/{a}", {}, None),
    "make a short data key": ("POST", "intransit/datakey/plaintext/{a}", {"bits": "128"}, None),
    "make a data key with a nonce": ("POST", "intransit/datakey/plaintext/{a}", {"bits": "256", "nonce": "AAAA"}, None),
    "make a wrapped data key": ("POST", "intransit/datakey/wrapped/{a}", {}, None),
    "decrypt for a": ("POST", "intransit/decrypt/{a}", {"ciphertext": "{sample_a}"}, None),
    "decrypt for b": ("POST", "intransit/decrypt/{b}", {"ciphertext": "{sample_b}"}, None),
    "decrypt by the other kind's id": ("POST", "intransit/decrypt/{p}", {"ciphertext": "{sample_p}"}, None),
    "encrypt": ("POST", "intransit/encrypt/{a}", {"plaintext": "AAAA"}, None),
    "encrypt with a key that is not there": ("POST", "intransit/encrypt/{gone}", {"plaintext": "AAAA"}, None),
    "rewrap": ("POST", "intransit/rewrap/{a}", {"ciphertext": "{sample_a}"}, None),
    "hmac": ("POST", "intransit/hmac/{a}", {"input": "AAAA"}, None),
    # at rest
    "at rest: data key of p": ("POST", "atrest/datakey/plaintext/{p}", {}, None),
    "at rest: data key of q": ("POST", "atrest/datakey/plaintext/{q}", {}, None),
    "at rest: wrapped data key of p": ("POST", "atrest/datakey/wrapped/{p}", {}, None),
    "at rest: decrypt of p": ("POST", "atrest/decrypt/{p}", {"ciphertext": "{sample_at_p}"}, None),
    "at rest: decrypt of q": ("POST", "atrest/decrypt/{q}", {"ciphertext": "{sample_at_q}"}, None),
    "at rest: rewrap of p": ("POST", "atrest/rewrap/{p}", {"ciphertext": "{sample_at_p}"}, None),
    "at rest: rewrap of q": ("POST", "atrest/rewrap/{q}", {"ciphertext": "{sample_at_q}"}, None),
    "at rest: encrypt of p": ("POST", "atrest/encrypt/{p}", {"plaintext": "AAAA"}, None),
    # keys
    "create a key": ("POST", "intransit/keys/{a}", {"type": "aes256-gcm96"}, None),
    "create an at-rest key": ("POST", "atrest/keys/{p}", {"type": "aes256-gcm96"}, None),
    "create a key of no type": ("POST", "intransit/keys/{gone}", {}, None),
    "create a key of another type": ("POST", "intransit/keys/{gone}", {"type": "rsa-2048"}, None),
    "create an exportable key": ("POST", "intransit/keys/{gone}", {"type": "aes256-gcm96", "exportable": "true"}, None),
    "read a key": ("GET", "intransit/keys/{a}", None, None),
    "list Atoms' roles": ("LIST", "auth/atoms/role", None, None),
    "list keys": ("LIST", "intransit/keys", None, None),
    "rotate a key": ("POST", "intransit/keys/{b}/rotate", {}, None),
    "rotate an at-rest key": ("POST", "atrest/keys/{q}/rotate", {}, None),
    "set min_decryption_version": ("POST", "intransit/keys/{a}/config", {"min_decryption_version": 1}, None),
    "set min_decryption_version at rest": ("POST", "atrest/keys/{p}/config", {"min_decryption_version": 1}, None),
    "make a key exportable": ("POST", "intransit/keys/{a}/config", {"exportable": True}, None),
    "slip exportable in": (
        "POST",
        "intransit/keys/{a}/config",
        {"min_decryption_version": 1, "exportable": True},
        None,
    ),
    "slip backup in": (
        "POST",
        "intransit/keys/{a}/config",
        {"deletion_allowed": "true", "allow_plaintext_backup": "true"},
        None,
    ),
    "allow deletion": ("POST", "intransit/keys/{gone}/config", dict(identities.ALLOW_DELETION), None),
    "forbid deletion": ("POST", "intransit/keys/{gone}/config", {"deletion_allowed": "false"}, None),
    "delete a key": ("DELETE", "intransit/keys/{gone}", None, None),
    "delete an at-rest key": ("DELETE", "atrest/keys/{gone}", None, None),
    "soft-delete a key": ("DELETE", "intransit/keys/{gone}/soft-delete", None, None),
    "trim a key": ("POST", "intransit/keys/{a}/trim", {"min_available_version": 1}, None),
    "export a key": ("GET", "intransit/export/encryption-key/{a}", None, None),
    "back a key up": ("GET", "intransit/backup/{a}", None, None),
    "restore a key": ("POST", "intransit/restore/{gone}", {"backup": "AAAA"}, None),
    "turn upsert on": ("POST", "intransit/config/keys", {"disable_upsert": False}, None),
    # documents
    "create a document": ("POST", "datakeys/data/{gone}/1", {"data": {"k": "v"}, "options": {"cas": 9}}, None),
    "overwrite a document": ("POST", "datakeys/data/{a}/1", {"data": {"k1": "mine"}}, None),
    "patch a document": ("PATCH", "datakeys/data/{a}/1", {"data": {"k2": "vault:v1:AAAA"}}, None),
    "read a document of a": ("GET", "datakeys/data/{a}/1", None, None),
    "read a document of b": ("GET", "datakeys/data/{b}/1", None, None),
    "read a document by the other kind's id": ("GET", "datakeys/data/{p}/1", None, None),
    "read subkeys": ("GET", "datakeys/subkeys/{a}/1", None, None),
    "list documents": ("LIST", "datakeys/metadata/{a}", None, None),
    "list recipients": ("LIST", "datakeys/metadata/", None, None),
    "read metadata": ("GET", "datakeys/metadata/{a}/1", None, None),
    "delete a version": ("DELETE", "datakeys/data/{gone}/1", None, None),
    "destroy versions": ("PUT", "datakeys/destroy/{gone}/1", {"versions": [1]}, None),
    "delete a document": ("DELETE", "datakeys/metadata/{gone}/1", None, None),
    "change the document store": ("POST", "datakeys/config", {"max_versions": 1}, None),
    # the key list
    "read the key list": ("GET", "authority/data/portal", None, None),
    "write the key list": ("POST", "authority/data/portal", {"data": {"keys": "mine"}, "options": {"cas": 0}}, None),
    "patch the key list": ("PATCH", "authority/data/portal", {"data": {"keys": "mine"}}, None),
    "delete the key list": ("DELETE", "authority/data/portal", None, None),
    "destroy the key list": ("DELETE", "authority/metadata/portal", None, None),
    "read the key list's metadata": ("GET", "authority/metadata/portal", None, None),
    "list what authority holds": ("LIST", "authority/metadata/", None, None),
    "write another document of authority": ("POST", "authority/data/{gone}", {"data": {}, "options": {"cas": 0}}, None),
    # the ledger
    **{
        f"{verb} whose {kind} are": (method, f"authority/data/{kind}/{{{subject}}}", body, None)
        for kind, subject in (("environments", "a"), ("atoms", "p"))
        for verb, method, body in (
            ("read", "GET", None),
            ("overwrite", "POST", {"data": {"account": "mine"}, "options": {"cas": 1}}),
            ("patch", "PATCH", {"data": {"account": "mine"}, "options": {"cas": 99}}),
            ("delete", "DELETE", None),
        )
    },
    **{
        f"write whose {kind} are": ("POST", f"authority/data/{kind}/{{gone}}", _NEW_OWNER, None)
        for kind in ("environments", "atoms")
    },
    "list the ledger": ("LIST", "authority/metadata/environments", None, None),
    "destroy whose an environment is": ("DELETE", "authority/metadata/environments/{a}", None, None),
    "configure authority": ("POST", "authority/config", {"cas_required": False}, None),
    # roles and secret_ids
    "create a role": ("POST", "auth/environments/role/{gone}", ENVIRONMENT_ROLE, None),
    "create an Atom's role": ("POST", "auth/atoms/role/{gone}", ATOM_ROLE, None),
    "overwrite a role": ("POST", "auth/environments/role/{a}", ENVIRONMENT_ROLE, None),
    "swap role policies": ("POST", "auth/environments/role/{gone}", ATOM_ROLE, None),
    "give an Atom the environment policy": ("POST", "auth/atoms/role/{gone}", ENVIRONMENT_ROLE, None),
    "create a role that needs no secret": (
        *(
            "POST",
            "auth/environments/role/{gone}",
            {**ENVIRONMENT_ROLE, "bind_secret_id": "false", "token_bound_cidrs": "0.0.0.0/0"},
            None,
        ),
    ),
    "create a role with a known role_id": (
        "POST",
        "auth/environments/role/{gone}",
        {**ENVIRONMENT_ROLE, "role_id": "mine"},
        None,
    ),
    "create a role by the old name of policies": (
        "POST",
        "auth/environments/role/{gone}",
        {**ENVIRONMENT_ROLE, "policies": "root"},
        None,
    ),
    "change a role's policies": ("POST", "auth/environments/role/{a}/policies", {"policies": "root"}, None),
    "change a role's token policies": (
        "POST",
        "auth/environments/role/{a}/token-policies",
        {"token_policies": "root"},
        None,
    ),
    "change a role's bind_secret_id": (
        "POST",
        "auth/environments/role/{a}/bind-secret-id",
        {"bind_secret_id": "false"},
        None,
    ),
    "read a role": ("GET", "auth/environments/role/{a}", None, None),
    "list roles": ("LIST", "auth/environments/role", None, None),
    "delete a role": ("DELETE", "auth/environments/role/{gone}", None, None),
    "read a role_id": ("GET", "auth/environments/role/{a}/role-id", None, None),
    "read a wrapped role_id": ("GET", "auth/environments/role/{a}/role-id", None, "300s"),
    "read a wrapped role_id of an Atom": ("GET", "auth/atoms/role/{p}/role-id", None, "300s"),
    "read a role_id wrapped too long": ("GET", "auth/environments/role/{a}/role-id", None, "3600s"),
    "read a role_id wrapped too short": ("GET", "auth/environments/role/{a}/role-id", None, "5s"),
    "set a role_id": ("POST", "auth/environments/role/{a}/role-id", {"role_id": "mine"}, None),
    "set a role_id, wrapped": ("POST", "auth/environments/role/{a}/role-id", {"role_id": "mine"}, "300s"),
    "make a secret_id": ("POST", "auth/environments/role/{a}/secret-id", {"metadata": "{metadata}"}, None),
    "make a wrapped secret_id": ("POST", "auth/environments/role/{a}/secret-id", {"metadata": "{metadata}"}, "300s"),
    "make a wrapped secret_id of an Atom": (
        "POST",
        "auth/atoms/role/{p}/secret-id",
        {"metadata": "{metadata}"},
        "300s",
    ),
    "make a secret_id without metadata": ("POST", "auth/environments/role/{a}/secret-id", {}, "300s"),
    "make a secret_id that lives longer": (
        "POST",
        "auth/environments/role/{a}/secret-id",
        {"metadata": "{metadata}", "ttl": "9000h"},
        "300s",
    ),
    "make a secret_id wrapped too long": (
        "POST",
        "auth/environments/role/{a}/secret-id",
        {"metadata": "{metadata}"},
        "3600s",
    ),
    "make a secret_id wrapped too short": (
        "POST",
        "auth/environments/role/{a}/secret-id",
        {"metadata": "{metadata}"},
        "5s",
    ),
    "choose a secret_id": (
        "POST",
        "auth/environments/role/{a}/custom-secret-id",
        {"secret_id": "mine", "metadata": "{metadata}"},
        "300s",
    ),
    "make a platform secret_id": ("POST", "auth/platform/role/rotator/secret-id", {"metadata": "{metadata}"}, "300s"),
    **{
        f"make the next secret_id of {identity}": ("POST", f"auth/platform/role/{identity}/secret-id", {}, "60s")
        for identity in identities.IDENTITIES
    },
    "make the next secret_id of rotator unwrapped": ("POST", "auth/platform/role/rotator/secret-id", {}, None),
    "make one of rotator with a life of its own": (
        *("POST", "auth/platform/role/rotator/secret-id", {"ttl": "9000h"}, "60s"),
    ),
    "destroy a platform secret_id": (
        *(
            "POST",
            "auth/platform/role/rotator/secret-id-accessor/destroy",
            {"secret_id_accessor": "{accessor_a}"},
            None,
        ),
    ),
    "list platform secret_ids": ("LIST", "auth/platform/role/rotator/secret-id", None, None),
    "read a platform role_id": ("GET", "auth/platform/role/rotator/role-id", None, "300s"),
    "create a platform role": ("POST", "auth/platform/role/{gone}", ENVIRONMENT_ROLE, None),
    "list secret_ids": ("LIST", "auth/environments/role/{a}/secret-id", None, None),
    "list secret_ids of an Atom": ("LIST", "auth/atoms/role/{p}/secret-id", None, None),
    "look a secret_id up": (
        *("POST", "auth/environments/role/{a}/secret-id-accessor/lookup", {"secret_id_accessor": "{accessor_a}"}, None),
    ),
    "look a secret_id of an Atom up": (
        *("POST", "auth/atoms/role/{p}/secret-id-accessor/lookup", {"secret_id_accessor": "{accessor_p}"}, None),
    ),
    "look a secret_id of another environment up": (
        *("POST", "auth/environments/role/{b}/secret-id-accessor/lookup", {"secret_id_accessor": "{accessor_b}"}, None),
    ),
    "list secret_ids of another environment": ("LIST", "auth/environments/role/{b}/secret-id", None, None),
    "destroy a secret_id": (
        *(
            "POST",
            "auth/environments/role/{b}/secret-id-accessor/destroy",
            {"secret_id_accessor": "{accessor_b}"},
            None,
        ),
    ),
    "tidy secret_ids": ("POST", "auth/environments/tidy/secret-id", {}, None),
    # the server itself
    "create a token": ("POST", "auth/token/create", {"policies": ["root"]}, None),
    "create an orphan": ("POST", "auth/token/create-orphan", {}, None),
    "look itself up": ("GET", "auth/token/lookup-self", None, None),
    "renew itself": ("POST", "auth/token/renew-self", {}, None),
    "list tokens": ("LIST", "auth/token/accessors", None, None),
    "write a policy": ("POST", "sys/policies/acl/kms-web", POLICY, None),
    "write a policy the old way": ("POST", "sys/policy/kms-web", POLICY, None),
    "read a policy": ("GET", "sys/policies/acl/kms-web", None, None),
    "list policies": ("LIST", "sys/policies/acl", None, None),
    "write an entity": ("POST", "identity/entity", {"name": "x", "policies": ["root"]}, None),
    "merge entities": ("POST", "identity/entity/merge", {"from_entity_ids": ["x"], "to_entity_id": "y"}, None),
    "write an alias": (
        "POST",
        "identity/entity-alias",
        {"name": "x", "canonical_id": "y", "mount_accessor": "z"},
        None,
    ),
    "write a group": ("POST", "identity/group", {"name": "x", "policies": ["root"]}, None),
    "list entities": ("LIST", "identity/entity/id", None, None),
    "mount an engine": ("POST", "sys/mounts/other", {"type": "kv"}, None),
    "unmount an engine": ("DELETE", "sys/mounts/intransit", None, None),
    "tune a mount": ("POST", "sys/mounts/intransit/tune", {"description": "x"}, None),
    "list mounts": ("GET", "sys/mounts", None, None),
    "remount": ("POST", "sys/remount", {"from": "intransit", "to": "mine"}, None),
    "enable a login": ("POST", "sys/auth/other", {"type": "approle"}, None),
    "list logins": ("GET", "sys/auth", None, None),
    "read raw storage": ("GET", "sys/raw/core", None, None),
    "take a snapshot": ("GET", "sys/storage/raft/snapshot", None, None),
    "write an audit device": ("POST", "sys/audit/x", {"type": "file", "options": {"file_path": "/dev/null"}}, None),
    "hash for the audit log": ("POST", "sys/audit-hash/x", {"input": "x"}, None),
    "seal": ("POST", "sys/seal", {}, None),
    "rotate the barrier": ("POST", "sys/rotate", {}, None),
    "revoke leases": ("POST", "sys/leases/revoke-prefix/auth", {}, None),
    "read another mount": ("GET", "secret/data/x", None, None),
    "wrap": ("POST", "sys/wrapping/wrap", {"x": "y"}, "60s"),
}

_ATOMS = {
    "intransit/": "atomtransit/",
    "datakeys/": "atomkeys/",
    "{a}": "{p}",
    "{b}": "{q}",
    "{p}": "{a}",
    "_a}": "_p}",
    "_b}": "_q}",
}
_ATOMS_PATTERN = re.compile("|".join(map(re.escape, _ATOMS)))


def _of_atoms(name: str) -> str:
    return f"{name}, on the Atoms' mounts"


def _twin(action: Action) -> Action:
    """The same with Atoms p and q for environments a and b."""
    method, path, body, wrap = action
    turned = body and {
        key: _ATOMS_PATTERN.sub(_turned, value) if isinstance(value, str) else value for key, value in body.items()
    }
    return method, _ATOMS_PATTERN.sub(_turned, path), turned, wrap


def _turned(found: re.Match[str]) -> str:
    return _ATOMS[found[0]]


_BOTH = {name for name, action in ACTIONS.items() if action[1].startswith(("intransit/", "datakeys/"))}
ACTIONS |= {_of_atoms(name): _twin(ACTIONS[name]) for name in sorted(_BOTH)}

_OWN_ENVIRONMENT = {"decrypt for a", "read a document of a"}
_OWN_LIST = {"list secret_ids", "look a secret_id up"}
_OWN_ATOM = {
    *map(_of_atoms, _OWN_ENVIRONMENT),
    *("at rest: data key of p", "at rest: wrapped data key of p", "at rest: decrypt of p", "at rest: rewrap of p"),
}
MAY: dict[str, set[str]] = {
    "web": {"make a data key", "make a data key without bits", "create a document", "patch a document"},
    "issuer": {"make a wrapped secret_id", "make a wrapped secret_id of an Atom"},
    "provisioner": {
        *("create a key", "create an at-rest key", "create a role", "create an Atom's role"),
        *("read a wrapped role_id", "read a wrapped role_id of an Atom"),
        *("read whose environments are", "read whose atoms are", "patch whose atoms are"),
        *("write whose environments are", "write whose atoms are"),
    },
    "rotator": {
        *(
            "rotate a key",
            "rotate an at-rest key",
            "read a key",
            "set min_decryption_version",
            "rewrap",
            "patch a document",
        ),
        *("read a document of a", "read a document of b", "read a document by the other kind's id"),
    },
    "watch": {
        "list roles",
        "list Atoms' roles",
        "list secret_ids",
        "list secret_ids of an Atom",
        "look a secret_id up",
        "look a secret_id of an Atom up",
        "look a secret_id of another environment up",
        "list secret_ids of another environment",
        "destroy a secret_id",
        "delete a role",
        *("read whose environments are", "read whose atoms are"),
    },
    "shredder": {
        *("allow deletion", "delete a key", "delete an at-rest key", "delete a document", "list the ledger"),
        *("read whose environments are", "read whose atoms are"),
    },
    "backup": {"take a snapshot"},
    "runtime_a": _OWN_ENVIRONMENT | _OWN_LIST,
    "runtime_p": _OWN_ATOM | {"list secret_ids of an Atom", "look a secret_id of an Atom up"},
}
MAY = {
    identity: may
    | {"read the key list"}
    | ({f"make the next secret_id of {identity}"} if identity in identities.IDENTITIES else set())
    | (set() if identity.startswith("runtime") else set(map(_of_atoms, may & _BOTH)))
    for identity, may in MAY.items()
}
# Tried by everybody but not by the one who may: they would change what the other rules look at.
MAY_UNTRIED = {
    *(("provisioner", "create a role"), ("provisioner", "create an Atom's role")),
    ("backup", "take a snapshot"),  # of raft storage, which this server has not (tests/vaults/restore/test_restore.py)
}


def _rules(allowed: bool) -> list[Any]:
    return [
        pytest.param(identity, name, id=f"{identity} {'may' if allowed else 'may not'} {name}")
        for identity, may in MAY.items()
        for name in ACTIONS
        if (name in may) is allowed and (identity, name) not in MAY_UNTRIED
    ]


def _try(cast: Cast, identity: str, name: str) -> int:
    method, path, body, wrap = ACTIONS[name]
    words = cast.words()
    filled = None if body is None else {key: _fill(value, words) for key, value in body.items()}
    return status(cast.tokens[identity], method, path.format(**words), filled, wrap)


def _fill(value: Any, words: dict[str, str]) -> Any:
    # Not format(): the metadata is JSON and has braces of its own.
    return words.get(value.strip("{}"), value) if isinstance(value, str) else value


@pytest.mark.parametrize(("identity", "name"), _rules(allowed=False))
def test_refused(cast: Cast, identity: str, name: str) -> None:
    assert _try(cast, identity, name) == 403


@pytest.mark.parametrize(("identity", "name"), _rules(allowed=True))
def test_allowed(cast: Cast, identity: str, name: str) -> None:
    # 400 and 404 come from behind the policy: a key or a document that is not there.
    assert _try(cast, identity, name) in {200, 400, 404}


@pytest.mark.parametrize("name", ACTIONS)
def test_without_a_token_nothing_is_allowed(cast: Cast, name: str) -> None:
    method, path, body, wrap = ACTIONS[name]
    assert status(cast.root.with_token(""), method, path.format(**cast.words()), body, wrap) in {400, 403}


def test_every_rule_names_a_known_action() -> None:
    assert set().union(*MAY.values()) <= set(ACTIONS)
