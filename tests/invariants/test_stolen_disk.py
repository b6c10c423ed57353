"""The stolen disk: a copy of a wrapped container's directory, once the customer revoked the token. Everything on it is tried
on the portal, the hosted vault and the customer's vault; nothing opens."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from kmscore.byov.customer import FILE_PATH, CustomerVault, decode_customer_vault, key_name
from kmscore.sealed.envelope import Place, open_sealed
from kmscore.vaultclient.answers import VaultError
from kmscore.vaultclient.client import Vault
from kmsruntime.disk.home import Home
from kmsruntime.errors import StoreDamaged
from kmsruntime.store import format as store_format
from tests.customer import CustomersVault, start_customers_vault
from tests.kmsruntime.container import Container, bring_your_own_vault, save
from tests.live import LivePortal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
SECRET = "never on a thief's desk"  # noqa: S105
PORTAL_ROUTES = [("GET", "sync"), ("POST", "report"), ("POST", "credentials"), ("POST", "enrol")]


@pytest.fixture(scope="module")
def customers_vault() -> Iterator[CustomersVault]:
    server = start_customers_vault()
    yield server
    server.stop()


def strings_of(directory: Path) -> set[str]:
    """Every text on the disk that could be a credential: JSON strings and anything that looks like one."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                found.add(name)
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)
        elif isinstance(value, str):
            found.add(value)

    for path in directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found |= {text.decode() for text in re.findall(rb"[A-Za-z0-9._:/+=-]{20,}", content)}
            try:
                walk(json.loads(content))
            except ValueError:
                continue
    return {text for text in found if 16 <= len(text) <= 4000 and text.isprintable() and text.isascii()}


def test_a_stolen_disk_opens_nothing_once_the_token_is_revoked(
    portal: LivePortal, customers_vault: CustomersVault, container: Container, tmp_path: Path
) -> None:
    stage, customer = portal.stage, customers_vault
    save(stage, password=SECRET, apiKey=SECRET + " either")
    container.enrol()
    trusting = container.environment(VAULT_CACERT=str(customer.ca))
    assert container.command("sync", env=trusting).returncode == 0
    before = strings_of(container.directory)
    key = key_name(stage.account.code, str(stage.atom.pk))
    customer.make_key(key)
    token = customer.make_token(key)
    bring_your_own_vault(stage, stage.atom, CustomerVault(customer.address, token, customer.namespace), wrapped=True)
    for _ in range(2):
        done = container.command("sync", env=trusting)
        assert done.returncode == 0, done.stderr
    given = container.command("get", "Orders database", "password", env=trusting)
    assert given.stdout == SECRET, given.stderr

    stolen = tmp_path / "stolen"
    shutil.copytree(container.directory, stolen)
    customer.revoke(token)
    thief = Container(portal, stolen)
    for words in (("get", "Orders database", "password"), ("sync",), ("exec", "--", "env"), ("status", "--json")):
        tried = thief.command(*words, env=trusting)
        assert SECRET not in tried.stdout + tried.stderr
        assert tried.returncode != 0 or words[0] == "status", (words, tried.stdout)

    on_disk = strings_of(stolen)
    assert SECRET not in on_disk
    assert_nothing_at_the_portal(portal, on_disk)
    readers = hosted_logins(portal, stolen)
    assert [sorted(one) for one in readers] == [["atoms"]], "the environment's login is not on the disk"
    assert_nothing_at_the_hosted_vault(readers[0]["atoms"], stage, stolen)
    # What the Atom's login does open is its properties file; the token in it is the one that was revoked.
    file = properties_file(portal, readers[0]["atoms"], stage, stolen)
    assert file.token == token
    assert_nothing_at_the_customers_vault(customer, on_disk | {file.token}, key, stolen)
    # Nor does what lay there in the clear before, in a backup say: it was replaced after the switch.
    assert_nothing_at_the_portal(portal, before)
    assert not [login for login in hosted_logins(portal, stolen, before) if "environments" in login]


def assert_nothing_at_the_portal(portal: LivePortal, texts: set[str]) -> None:
    for text in texts:
        for method, route in PORTAL_ROUTES:
            answer = requests.request(
                method,
                f"{portal.url}/api/atom/v1/{route}",
                json={
                    "reason": "lost",
                    "source": "hosted",
                    "verdict": "ok",
                    "sync_hash": "0" * 64,
                    "settings_hash": "1" * 64,
                },
                headers={"Authorization": f"Bearer {text}"},
                timeout=10,
            )
            assert answer.status_code in (400, 401, 403, 409, 422), (route, answer.status_code)
            if answer.status_code == 422:
                assert answer.json()["code"] == "request_invalid"


def hosted_logins(portal: LivePortal, disk: Path, texts: set[str] | None = None) -> list[dict[str, Vault]]:
    """Every pair of UUIDs on the disk, tried as role_id and secret_id at both mounts: what logs in."""
    uuids = [text for text in (texts or strings_of(disk)) if re.fullmatch(r"[0-9a-f-]{36}", text)]
    server, found = Vault(portal.vault_address), []
    for role_id, secret_id in itertools.permutations(uuids, 2):
        for mount in ("atoms", "environments"):
            try:
                login = server.login(mount, role_id, secret_id)
            except VaultError:
                continue
            found.append({mount: server.with_token(login.token)})
    return found


def assert_nothing_at_the_hosted_vault(atom: Vault, stage: Any, disk: Path) -> None:
    environment, header = stage.production.pk, store_format.read_front((disk / "store").read_bytes()).header
    for method, path in (
        ("GET", f"datakeys/data/{environment}/0"),
        ("POST", f"intransit/decrypt/{environment}"),
        ("POST", f"atrest/decrypt/{environment}"),
        ("POST", f"intransit/datakey/plaintext/{environment}"),
    ):
        with pytest.raises(VaultError):
            atom.call(method, path, {"ciphertext": header.wrapped} if method == "POST" else None)
    for mount in ("intransit", "atomtransit", "atrest"):
        with pytest.raises(VaultError):
            atom.unwrap_data_keys(mount, str(stage.atom.pk), [header.wrapped])


def properties_file(portal: LivePortal, atom: Vault, stage: Any, disk: Path) -> CustomerVault:
    token = json.loads(Home(disk).atom.read_bytes())["settings_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"{portal.url}/api/atom/v1/settings", headers=headers, timeout=10).json()
    row = answer["file"]
    document = atom.read_document("atomkeys", f"{stage.atom.pk}/{row['document']}")
    key = atom.unwrap_data_keys("atomtransit", str(stage.atom.pk), [document[row["data_key"]]])[0]
    import base64

    place = Place(answer["account"], answer["atom"], "kms-file", FILE_PATH, row["revision"], row["data_key"])
    # The very key that opens the file does not open the store.
    with pytest.raises(StoreDamaged):
        store_format.decode((disk / "store").read_bytes(), key)
    return decode_customer_vault(open_sealed(key, base64.b64decode(row["sealed"]), place))


def assert_nothing_at_the_customers_vault(customer: CustomersVault, texts: set[str], key: str, disk: Path) -> None:
    wrapped = store_format.read_front((disk / "store").read_bytes()).header.wrapped
    assert wrapped.startswith("vault:v1:")
    for text in texts:
        client = Vault(customer.address, token=text, ca=str(customer.ca), namespace=customer.namespace)
        for path, body in (
            (f"transit/decrypt/{key}", {"ciphertext": wrapped}),
            (f"transit/datakey/plaintext/{key}", {}),
        ):
            with pytest.raises(VaultError):
                client.call("POST", path, body)
    owner = customer.root.call("POST", f"transit/decrypt/{key}", {"ciphertext": wrapped})
    assert owner["data"]["plaintext"], "with a live token it would have opened"
