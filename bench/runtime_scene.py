"""What the runtime's bench measures on: a raft OpenBao with its audit log on, a container's directory with real logins, and
for each N an environment's delivery of N secrets, each under a data key of its own.
"""

from __future__ import annotations

import base64
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hosted import hosted_vault

from kmscore.sealed import manifest
from kmscore.sealed.envelope import seal
from kmscore.sealed.manifest import manifest_place
from kmscore.vaultclient.client import Vault, chunks
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from kmsportal.demo.servers import OpenBao
from kmsruntime.disk import credentials
from kmsruntime.disk.credentials import AtomCredentials, EnvironmentCredentials, VaultLogin
from kmsruntime.disk.home import Config, Home
from tests.by_hand import add_to_document, wrapped
from vaults.hosted import layout
from vaults.hosted.hvac_client import client_of
from vaults.hosted.identities import ATOM_ROLE, ENVIRONMENT_ROLE, KEY_PARAMETERS

ACCOUNT, ATOM, CONNECTION = (str(uuid.uuid4()) for _ in range(3))
DOCUMENT_ENTRIES = 500


@dataclass
class Platform:
    """The vault, its address and the platform's logins by identity."""

    openbao: OpenBao
    identities: dict[str, Vault]

    @property
    def address(self) -> str:
        return self.openbao.address

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    @property
    def audit_log(self) -> Path:
        return self.openbao.directory / "audit.log"


@contextmanager
def platform() -> Iterator[Platform]:
    """The hosted vault with the keys and the role of one Atom."""
    with hosted_vault() as hosted:
        vault, identities = Vault(hosted.openbao.address), {}
        for name, one in hosted.logins.items():
            identities[name] = vault.with_token(vault.login("platform", one.role_id, one.secret_id).token)
        for mount in ("atomtransit", "atrest"):
            identities["provisioner"].call("POST", f"{mount}/keys/{ATOM}", KEY_PARAMETERS)
        layout.create_role(client_of(identities["provisioner"]), "atoms", ATOM, ATOM_ROLE)
        yield Platform(hosted.openbao, identities)


def login_of(hosted: Platform, mount: str, recipient: str) -> VaultLogin:
    """A real login, taken the way an enrolment does."""
    path, nobody = f"auth/{mount}/role/{recipient}", Vault(hosted.address)
    role = wrapped(hosted.identities["provisioner"], "GET", f"{path}/role-id", seconds=300)
    body = {"metadata": orjson.dumps({"atom": ATOM, "node": "bench", "enrolment": "bench"}).decode()}
    secret = wrapped(hosted.identities["issuer"], "POST", f"{path}/secret-id", body, seconds=300)
    role_id = str(nobody.unwrap_response(role.token)["role_id"])
    held = nobody.unwrap_response(secret.token)
    return VaultLogin(
        mount, recipient, role_id, str(held["secret_id"]), secret.accessor, nobody.server_time(), 768 * 3600
    )


@dataclass
class BenchEnvironment:
    """An environment that holds `count` secrets; `answer` is the portal's answer to `sync`."""

    id: str
    count: int
    login: VaultLogin
    answer: bytes


def environment(hosted: Platform, count: int) -> BenchEnvironment:
    recipient = str(uuid.uuid4())
    hosted.identities["provisioner"].call("POST", f"intransit/keys/{recipient}", KEY_PARAMETERS)
    layout.create_role(client_of(hosted.identities["provisioner"]), "environments", recipient, ENVIRONMENT_ROLE)
    keys = _data_keys(hosted, recipient, count)
    rows, entries = [], []
    for number, (key_id, key) in enumerate(keys):
        path, revision = ("connection", CONNECTION, f"field{number}"), number + 1
        sealed = seal(
            key, f"secret {number:>20}".encode(), manifest.value_place(ACCOUNT, recipient, path, revision, key_id)
        )
        rows.append((path, revision, key_id, number // DOCUMENT_ENTRIES, base64.b64encode(sealed).decode()))
        entries.append(manifest.Entry("sealed", path, "Bench", revision, key_id))
    # Each save seals the manifest under its own key, so the newest value and the manifest share one.
    last_id, last_key = keys[-1]
    listing = manifest.Manifest(recipient, count, tuple(entries))
    sealed = seal(last_key, listing.encode(), manifest_place(ACCOUNT, recipient, count, last_id))
    answer: dict[str, Any] = {
        "format": 1,
        "account": ACCOUNT,
        "atom": {"id": ATOM, "name": "Bench", "type": "ATOM"},
        "attachment_revision": 1,
        "settings_revision": 1,
        "environment": {"id": recipient, "name": "Bench"},
        "revision": count,
        "manifest": {
            "data_key": last_id,
            "document": (count - 1) // DOCUMENT_ENTRIES,
            "sealed": base64.b64encode(sealed).decode(),
        },
        "values": rows,
        "plain": [],
    }
    return BenchEnvironment(recipient, count, login_of(hosted, "environments", recipient), orjson.dumps(answer))


def _data_keys(hosted: Platform, recipient: str, count: int) -> list[tuple[str, bytes]]:
    """Made by the vault and stored in its documents, as saves do."""
    web = hosted.identities["web"]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: web.new_data_key("intransit", recipient), range(count)))
    keys = [(str(uuid.uuid4()), key) for key in made]
    for number, document in enumerate(chunks(keys, DOCUMENT_ENTRIES)):
        for part in chunks(document, 250):
            add_to_document(
                web, OF_ENVIRONMENTS, f"{recipient}/{number}", {key_id: key.wrapped for key_id, key in part}
            )
    return [(key_id, key.plaintext) for key_id, key in keys]


def container(directory: Path, hosted: Platform, environment: BenchEnvironment, portal: str, vault: str) -> Home:
    """An enrolled container's directory."""
    home = Home(directory)
    home.prepare()
    home.write_config(Config(portal, vault))
    credentials.write_environment(home, EnvironmentCredentials("sync", environment.id, "Bench", 1, environment.login))
    login = login_of(hosted, "atoms", ATOM)
    credentials.write_atom(
        home, AtomCredentials(ACCOUNT, "bench", ATOM, "Bench", "ATOM", "node", "", "settings", login)
    )
    return home
