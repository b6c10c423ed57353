"""check, allow-vault and status with the customer's vault, and every way a file or a variable can lead there."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kmscore.byov.customer import CustomerVault
from kmscore.byov.properties import read_properties
from kmscore.byov.verdicts import STEPS
from kmsruntime.__main__ import COMMANDS
from kmsruntime.options import build_parser
from tests.conftest import Stage
from tests.customer import CustomersVault, make_client, start_customers_vault
from tests.kmscore.byov.situations import proxy
from tests.kmsruntime.byov_machine import Byov
from tests.kmsruntime.container import Container, save
from tests.live import ROOT
from tests.servers import free_port
from vaults.models import ContainerReport

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
HELD = "held-canary"
SEED = (ROOT / "tests" / "kmscore" / "byov" / "properties" / "seed-left.yaml").read_bytes()


@pytest.fixture
def byov(enrolled: Container, customers_vault: CustomersVault) -> Byov:
    """One value, sealed with the hosted vault."""
    save(enrolled.stage, password=HELD)
    assert enrolled.command("sync").returncode == 0
    return Byov(enrolled, customers_vault, enrolled.stage.atom)


@pytest.fixture(scope="module")
def mutual() -> Iterator[CustomersVault]:
    """Lets in only clients with a certificate."""
    server = start_customers_vault(mutual=True)
    yield server
    server.stop()


def switched(byov: Byov, environment: dict[str, str], *, wrapped: bool = False) -> None:
    """The command line switches, and gives the value from the new store."""
    done = byov.container.command("sync", env=environment)
    assert (done.returncode, ContainerReport.objects.get().source) == (0, "byov"), done.stderr
    assert ContainerReport.objects.get().wrapped == wrapped
    given = byov.container.command("get", "Orders database", "password", env=environment)
    assert given.stdout == HELD, given.stderr


# -- check --------------------------------------------------------------------------------------------------------------


def test_in_hosted_mode_there_is_nothing_to_check(byov: Byov) -> None:
    done = byov.container.command("check")
    assert (done.returncode, "the hosted vault is used" in done.stdout) == (0, True)
    found = json.loads(byov.container.command("check", "--json").stdout)
    assert found == {
        **{"settings_revision": 1, "source": "hosted", "wrapped": False},
        **{"ok": True, "verdict": "ok", "steps": []},
    }


def test_every_step_is_a_line_and_nothing_is_switched(byov: Byov) -> None:
    byov.turn_on(wrapped=True)
    before = byov.container.home.store.read_bytes()
    done = byov.container.command("check", env=byov.environment)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(STEPS)
    assert lines[-1] == "ok      Round trip: A data key of 32 bytes came back; it was thrown away."
    found = json.loads(byov.container.command("check", "--json", env=byov.environment).stdout)
    about = {name: found[name] for name in ("settings_revision", "source", "wrapped", "ok", "verdict")}
    assert about == {"settings_revision": 2, "source": "byov", "wrapped": True, "ok": True, "verdict": "ok"}
    assert [step["id"] for step in found["steps"]] == list(STEPS)
    assert {frozenset(step) for step in found["steps"]} == {
        frozenset(("id", "state", "code", "detail", "title", "sentence", "command"))
    }
    assert byov.container.home.store.read_bytes() == before


def test_a_warning_has_its_command_and_is_no_failure(byov: Byov) -> None:
    byov.customer.make_key(byov.key)
    byov.turn_on(file=byov.file(token=byov.customer.make_token(byov.key, period="", ttl="700h")))
    done = byov.container.command("check", env=byov.environment)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("note "))
    assert "Token without a maximum age: The token is not periodic" in lines[at]
    assert lines[at + 1].strip().startswith("vault token create -namespace=admin -orphan -period=24h")
    assert not any(line.startswith("FAILED") for line in lines)


def test_a_failing_step_ends_it_with_the_step_and_what_mends_it(byov: Byov) -> None:
    byov.turn_on(file=byov.file(token=byov.customer.make_token("another-key")))
    done = byov.container.command("check", env=byov.environment)
    assert done.returncode == 83
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("FAILED"))
    assert "Data keys: The token's policy does not allow transit/datakey/plaintext/" in lines[at]
    assert lines[at + 1].strip() == f"vault policy write -namespace=admin {byov.key} - <<'POLICY'"
    assert [line[0] for line in lines if line.endswith("Not checked.")] == ["-"] * 3  # key, decrypt, round trip
    assert done.stderr.startswith("kms-runtime: Data keys: The token's policy does not allow")
    assert (done.stderr.count("\n"), done.stderr.endswith("[policy_denies]\n")) == (1, True)
    found = json.loads(byov.container.command("check", "--json", env=byov.environment).stdout)
    assert (found["ok"], found["verdict"]) == (False, "policy_denies")
    assert byov.token not in done.stdout + done.stderr + json.dumps(found)


def test_the_ca_comes_from_the_environment_or_from_the_file(byov: Byov, tmp_path: Path) -> None:
    byov.turn_on()
    assert "[tls_ca]" in byov.container.command("check").stderr
    missing = byov.container.environment(VAULT_CACERT=str(tmp_path / "missing.pem"))
    assert "[file_refused]" in byov.container.command("check", env=missing).stderr
    byov.turn_on(file=byov.file(trust_store=str(byov.customer.ca)))
    switched(byov, missing)  # the file's counts


# -- allow-vault --------------------------------------------------------------------------------------------------------


def test_what_is_allowed_is_listed_once_and_can_be_taken_back(enrolled: Container) -> None:
    usual = ["variable  VAULT_URI", "variable  VAULT_NAMESPACE", "variable  AUTH_TOKEN"]
    assert enrolled.command("allow-vault", "--list").stdout.splitlines() == ["vault     none", *usual]
    spellings = ("https://Vault.example.com", "https://vault.example.com:443/", "https://vault.example.com:443/v1")
    done = enrolled.command("allow-vault", *spellings, "http://127.0.0.1:8200", "--allow-env", "ORDERS_TOKEN")
    vaults = ["vault     https://vault.example.com:443", "vault     http://127.0.0.1:8200"]
    assert done.stdout.splitlines() == [*vaults, *usual, "variable  ORDERS_TOKEN"]
    assert enrolled.command("allow-vault", "--list").stdout == done.stdout
    words = ("allow-vault", "--remove", "https://vault.example.com", "--remove", "ORDERS_TOKEN")
    assert enrolled.command(*words).stdout.splitlines() == [vaults[1], *usual]
    again = enrolled.command(*words)
    assert (again.returncode, "[not_allowed_before]" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("http://vault.example.com:8200",), "address_not_https", "must start with https://"),
        (("vault.example.com:8200",), "address_invalid", "like https://vault.example.com:8200"),
        (("https://kms:canary@vault.example.com",), "address_invalid", "nothing else"),
        (("https://vault.example.com/?a=canary",), "address_invalid", "nothing else"),
        (("https://${VAULT_URI}",), "address_invalid", "nothing else"),
        (("https://*.example.com",), "address_invalid", "nothing else"),
        (("https://v:0",), "address_invalid", "nothing else"),
        (("",), "address_invalid", "nothing else"),
        (("--allow-env", "NOT A NAME"), "name_invalid", "not the name of an environment variable"),
        (("--allow-env", "${AUTH_TOKEN}"), "name_invalid", "not the name of an environment variable"),
    ],
)
def test_what_cannot_be_allowed_is_said_and_changes_nothing(
    enrolled: Container, words: tuple[str, ...], code: str, says: str
) -> None:
    before = enrolled.home.config.read_bytes()
    done = enrolled.command("allow-vault", "https://good.example.com", *words)
    assert (done.returncode, says in done.stderr, f"[{code}]" in done.stderr) == (2, True, True), done.stderr
    assert "canary" not in done.stderr
    assert enrolled.home.config.read_bytes() == before


def test_enrol_takes_what_is_allowed_and_checks_it_first(container: Container) -> None:
    token = container.installer_token()
    done = container.enrol_with(token, "--allow-vault", "http://vault.example.com")
    assert (done.returncode, "[address_not_https]" in done.stderr) == (2, True)
    assert not container.directory.exists()
    done = container.enrol_with(token, "--allow-vault", "https://vault.example.com", "--allow-env", "ORDERS_TOKEN")
    assert done.returncode == 0, done.stderr
    listed = container.command("allow-vault", "--list").stdout
    assert "https://vault.example.com:443\n" in listed
    assert "ORDERS_TOKEN\n" in listed


def test_without_an_enrolment_nothing_can_be_allowed(container: Container) -> None:
    for words in (("allow-vault", "https://vault.example.com"), ("allow-vault", "--list"), ("check",)):
        done = container.command(*words)
        assert (done.returncode, "[not_enrolled]" in done.stderr) == (67, True)


# -- status -------------------------------------------------------------------------------------------------------------


def test_status_says_which_vault_and_how_long_the_token_works(byov: Byov) -> None:
    assert (byov.container.status()["source"], byov.container.status()["token"]) == ("hosted", None)
    byov.turn_on()
    assert byov.container.command("sync", env=byov.environment).returncode == 0
    found, shown = byov.container.status(), byov.container.command("status").stdout
    assert (found["verdict"], found["source"], found["wrapped"], found["pending"]) == ("ok", "byov", False, None)
    assert (found["settings_revision"], found["values"]) == (2, 1)
    assert found["key"] == {"source": "byov", "name": byov.key, "version": 1, "wrapped": False}
    assert {step["state"] for step in found["preflight"]} == {"ok", "skipped"}
    assert f"Key:          your own vault, key {byov.key} version 1" in shown
    assert byov.token not in shown + json.dumps(found)


def test_status_of_a_wrapped_store_opens_nothing(byov: Byov) -> None:
    byov.turn_on(wrapped=True)
    assert byov.container.command("sync", env=byov.environment).returncode == 0
    byov.customer.revoke(byov.token)
    found, shown = byov.container.status(), byov.container.command("status").stdout
    assert (found["verdict"], found["wrapped"], found["values"], found["entries"]) == ("ok", True, None, [])
    assert "under a wrapped encryption key: only your own vault opens it" in shown
    assert f"your own vault, wrapped, key {byov.key} version 1" in shown


def test_status_names_the_step_a_switch_waits_for(byov: Byov) -> None:
    byov.turn_on(file=byov.file(token=byov.customer.make_token("another-key")))
    assert byov.container.command("sync", env=byov.environment).returncode == 0
    found, shown = byov.container.status(), byov.container.command("status").stdout
    assert (found["verdict"], found["source"], found["settings_revision"]) == ("switch_pending", "hosted", 1)
    assert (found["pending"]["step"], found["pending"]["code"]) == ("datakey", "policy_denies")
    assert found["pending"]["sentence"].startswith("Data keys: The token's policy does not allow")
    assert "hosted vault, key " in shown
    assert "[switch_pending]" in shown


# -- the vault is down or shut ------------------------------------------------------------------------------------------


def test_get_and_exec_say_why_a_wrapped_store_stays_closed(byov: Byov) -> None:
    vault = start_customers_vault()
    try:
        byov.turn_on(file=byov.file(vault, trust_store=str(vault.ca)), wrapped=True)
        switched(byov, byov.container.environment(), wrapped=True)
        vault.top.call("PUT", "sys/seal")
        for words in (("get", "Orders database", "password"), ("exec", "--", "env")):
            done = byov.container.command(*words)
            assert (done.returncode, done.stdout) == (81, "")
            assert done.stderr == "kms-runtime: Unsealed: The vault is sealed. [vault_sealed]\n"
        vault.kill()
        done = byov.container.command("get", "Orders database", "password")
        assert (done.returncode, "Connection: Nothing accepts connections at " in done.stderr) == (81, True)
        assert done.stderr.endswith("[vault_refused]\n")
    finally:
        vault.stop()


# -- ways to the vault --------------------------------------------------------------------------------------------------


def test_a_client_certificate_is_shown_once_the_vault_was_confirmed(byov: Byov, mutual: CustomersVault) -> None:
    password = "key-password-canary"
    pem = make_client(mutual.directory, password)
    options = {"trust_store": str(mutual.ca), "key_store": str(pem), "key_store_password": password}
    byov.turn_on(file=byov.file(mutual, **options | {"key_store": ""}))  # a password alone is nothing of the container
    assert "[tls_client_cert]" in byov.container.command("check").stderr
    byov.turn_on(file=byov.file(mutual, **options))
    assert "[confirm_vault]" in byov.container.command("check").stderr
    assert byov.container.command("allow-vault", mutual.address).returncode == 0
    switched(byov, byov.container.environment())
    byov.turn_on(file=byov.file(mutual, **options | {"key_store_password": "wrong"}))
    done = byov.container.command("check")
    assert "[file_refused]" in done.stderr
    assert "wrong\n" not in done.stdout


def test_a_key_stores_password_may_be_a_variable(byov: Byov, mutual: CustomersVault) -> None:
    password = "key password canary "
    pem = make_client(mutual.directory, password)
    texts = {"trust_store": "${CA_FILE}", "key_store": f"{pem}", "key_store_password": "${KEY_PASSWORD}"}
    file = byov.file(mutual, **texts)
    byov.turn_on(file=replace(file, uri="${VAULT_URI}", namespace="${VAULT_NAMESPACE}"))
    held = {"VAULT_URI": f" {mutual.address}/v1/\n", "VAULT_NAMESPACE": "/admin/", "CA_FILE": f"file:{mutual.ca}"}
    environment = byov.container.environment(**held, KEY_PASSWORD=password)
    assert "[env_not_allowed]" in byov.container.command("check", env=environment).stderr
    byov.container.command("allow-vault", "--allow-env", "CA_FILE", "--allow-env", "KEY_PASSWORD")
    switched(byov, environment)


def test_a_proxy_is_used_only_when_it_is_named(byov: Byov) -> None:
    byov.turn_on()
    with proxy() as (address, asked):
        switched(byov, byov.environment | {"VAULT_PROXY_ADDR": address})
        assert set(asked) == {byov.customer.address.removeprefix("https://")}
    with proxy(allows=False) as (address, _):
        done = byov.container.command("check", env=byov.environment | {"VAULT_PROXY_ADDR": address})
        assert "[vault_proxy]" in done.stderr
    gone = f"http://127.0.0.1:{free_port()}"
    assert "[vault_proxy]" in byov.container.command("check", env=byov.environment | {"VAULT_PROXY_ADDR": gone}).stderr
    odd = byov.container.command("check", env=byov.environment | {"VAULT_PROXY_ADDR": "socks5://u:canary@proxy"})
    assert ("[uri_refused]" in odd.stderr, "canary" in odd.stdout + odd.stderr) == (True, False)


# -- the seed's sample --------------------------------------------------------------------------------------------------


def sample(byov: Byov, **values: str) -> CustomerVault:
    """The seed's file through the linter, with these placeholders filled in."""
    content = SEED
    for name, value in values.items():
        assert content.count(b"${%s}" % name.encode()) == 1
        content = content.replace(b"${%s}" % name.encode(), value.encode())
    reading = read_properties("application.yaml", content)
    assert not any(finding.severity == "error" for finding in reading.findings)
    assert reading.vault is not None
    return reading.vault


@pytest.mark.parametrize(
    "left", [(), ("AUTH_TOKEN", "VAULT_NAMESPACE", "VAULT_URI")], ids=["filled in", "left as it is"]
)
def test_the_sample_works_as_it_is(byov: Byov, stage: Stage, left: tuple[str, ...]) -> None:
    byov.customer.make_key(byov.key)
    token = byov.customer.make_token(byov.key)
    values = {"VAULT_URI": byov.customer.address, "VAULT_NAMESPACE": byov.customer.namespace, "AUTH_TOKEN": token}
    file = sample(byov, **{name: value for name, value in values.items() if name not in left})
    byov.turn_on(file=file, wrapped=True)
    environment = byov.environment | {name: values[name] for name in left}
    switched(byov, environment, wrapped=True)
    if left:
        assert not any(
            token.encode() in path.read_bytes() for path in byov.container.directory.iterdir() if path.is_file()
        )
        del environment["AUTH_TOKEN"]
        done = byov.container.command("get", "Orders database", "password", env=environment)
        assert (done.returncode, "The variable AUTH_TOKEN is not set" in done.stderr) == (83, True)
        assert done.stderr.endswith("[env_missing]\n")


# -- the documentation --------------------------------------------------------------------------------------------------


def test_every_command_option_and_field_is_documented(byov: Byov) -> None:
    """docs/runtime.md; the exit codes have a test of their own (test_trouble.py)."""
    text = (ROOT / "docs" / "runtime.md").read_text()
    rows = {row.split("`")[1].split()[0]: row for row in text.splitlines() if row.startswith("| `")}
    (commands,) = [act for act in build_parser(COMMANDS)._actions if isinstance(act, argparse._SubParsersAction)]
    for name, command in commands.choices.items():
        options = {option for act in command._actions for option in act.option_strings if option.startswith("--")}
        for option in options - {"--dir", "--help"}:
            assert option in rows[name], (name, option)
    told = text.partition("## `status --json`")[2]
    assert [name for name in byov.container.status() if f"`{name}`" not in told] == []
