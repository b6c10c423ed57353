"""A hosted vault with two environments and two Atoms, made by the real identities; used by the layout's rules."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from kmscore.vaultclient.client import JSON, Vault
from kmscore.vaultclient.mounts import OF_ATOMS, OF_ENVIRONMENTS, RecipientMounts
from tests.by_hand import add_to_document, wrapped
from tests.servers import OpenBao
from vaults.hosted import layout
from vaults.hosted.credentials import issue_credential
from vaults.hosted.hvac_client import MERGE, client_of
from vaults.hosted.identities import ATOM_ROLE, ENVIRONMENT_ROLE, IDENTITIES, KEY_PARAMETERS

A, B, P, Q = (str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in ("env-a", "env-b", "atom-p", "atom-q"))
GONE = str(uuid.uuid5(uuid.NAMESPACE_URL, "never made"))
METADATA = json.dumps({"atom": P, "node": "n1", "enrolment": "e1"})


@dataclass
class Cast:
    """tokens: {identity or runtime: Vault with its token}; sample: wrapped data keys by recipient."""

    root: Vault
    tokens: dict[str, Vault]
    sample: dict[str, str]
    accessors: dict[str, str]

    def words(self) -> dict[str, str]:
        """What the actions' paths and bodies may name."""
        words = {"a": A, "b": B, "p": P, "q": Q, "gone": GONE, "metadata": METADATA}
        return words | {f"sample_{name}": text for name, text in self.sample.items()} | self.accessors


def make_cast(server: OpenBao) -> Cast:
    """Install the layout and provision both environments and both Atoms, with documents and data keys."""
    root = Vault(server.address, token=server.root_token)
    layout.install(client_of(root))
    tokens = {identity: platform_login(root, identity) for identity in IDENTITIES}
    accessors: dict[str, str] = {}
    sample = {}
    for name, recipient, mounts in (
        ("a", A, OF_ENVIRONMENTS),
        ("b", B, OF_ENVIRONMENTS),
        ("p", P, OF_ATOMS),
        ("q", Q, OF_ATOMS),
    ):
        provision(tokens["provisioner"], recipient, mounts)
        tokens[f"runtime_{name}"], accessors[f"accessor_{name}"] = enrol(tokens, recipient, mounts.logins)
        key = tokens["web"].new_data_key(mounts.transit, recipient)
        add_to_document(tokens["web"], mounts, f"{recipient}/1", {"k1": key.wrapped})
        sample[name] = key.wrapped
    sample["at_p"] = tokens["runtime_p"].new_data_key("atrest", P).wrapped
    sample["at_q"] = tokens["runtime_q"].new_data_key("atrest", Q).wrapped
    return Cast(root, tokens, sample, accessors)


def platform_login(root: Vault, identity: str) -> Vault:
    credential = issue_credential(client_of(root), identity)
    return root.with_token(root.with_token("").login("platform", credential.role_id, credential.secret_id).token)


def provision(provisioner: Vault, recipient: str, mounts: RecipientMounts) -> None:
    """What the worker does for a new environment or Atom."""
    ledger, owner = ("atoms" if mounts is OF_ATOMS else "environments"), {"account": "tests"}
    provisioner.call("POST", f"authority/data/{ledger}/{recipient}", {"data": owner, "options": {"cas": 0}})
    provisioner.call("POST", f"{mounts.transit}/keys/{recipient}", KEY_PARAMETERS)
    if mounts is OF_ATOMS:
        provisioner.call("POST", f"atrest/keys/{recipient}", KEY_PARAMETERS)
    role = ATOM_ROLE if mounts is OF_ATOMS else ENVIRONMENT_ROLE
    provisioner.call("POST", f"auth/{mounts.logins}/role/{recipient}", role)


def enrol(tokens: dict[str, Vault], recipient: str, mount: str) -> tuple[Vault, str]:
    """What a runtime does: unwrap both, log in. Returns its vault and the secret_id's accessor."""
    role = wrapped(tokens["provisioner"], "GET", f"auth/{mount}/role/{recipient}/role-id", seconds=300)
    secret = wrapped(
        tokens["issuer"], "POST", f"auth/{mount}/role/{recipient}/secret-id", {"metadata": METADATA}, seconds=300
    )
    nobody = tokens["web"].with_token("")
    role_id = nobody.unwrap_response(role.token)["role_id"]
    secret_id = nobody.unwrap_response(secret.token)["secret_id"]
    return nobody.with_token(nobody.login(mount, role_id, secret_id).token), secret.accessor


def status(vault: Vault, method: str, path: str, body: dict[str, Any] | None = None, wrap: str | None = None) -> int:
    """What the vault answers: 200 for any success, else the status."""
    kind = MERGE if method == "PATCH" else JSON
    sent = None if body is None else json.dumps(body).encode()
    found, _ = vault.exchange(method, path, sent, content_type=kind, wrap_ttl=wrap or "")
    return 200 if found < 300 else found
