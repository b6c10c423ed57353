"""Switching vaults: whatever the settings ask for, the values stay the same, nobody enters one again, and the portal is told."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from atoms import actions as atoms
from atoms.models import Atom
from kmscore.byov.customer import CustomerVault
from kmsruntime.container import Container as Parts
from kmsruntime.errors import CustomerVaultRefused, CustomerVaultUnavailable, SettingsRefused
from kmsruntime.store.file import StoreFile
from kmsruntime.store.format import Header
from kmsruntime.store.keys import KeySource
from operations.work import sweep
from tests.customer import CustomersVault
from tests.kmsruntime.byov_machine import HELD, Byov, unseal
from tests.kmsruntime.conftest import Enrolled
from tests.kmsruntime.container import save
from tests.live import LivePortal
from tests.servers import free_port
from vaults.models import KmsSettings, PropertiesFile

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def held(byov: Byov) -> Byov:
    """The same with two values, sealed with the hosted vault."""
    save(byov.container.stage, {"region": "eu"}, password=HELD, apiKey="another")
    byov.container.sync()
    return byov


def settled(byov: Byov, revision: int, *, mode: str, wrapped: bool = False) -> None:
    """One sync switches; values are what they were, store and portal agree; a second sync has nothing to do."""
    byov.container.sync()
    assert byov.get() == HELD
    assert byov.get("apiKey") == "another"
    assert byov.is_sealed_for(revision, mode=mode, wrapped=wrapped, values=2)
    assert (byov.report().verdict, byov.failed_step()) == ("ok", None)
    assert byov.container.sync().result == "unchanged"
    assert byov.is_sealed_for(revision, mode=mode, wrapped=wrapped, values=2)


# -- the ways there and back -------------------------------------------------------------------------------------------


def test_from_hosted_to_plain_to_wrapped_and_all_the_way_back(held: Byov) -> None:
    file = held.file()
    settled(held, held.turn_on(file=file), mode="byov")
    settled(held, held.turn_on(file=file, wrapped=True), mode="byov", wrapped=True)
    settled(held, held.turn_on(file=file), mode="byov")
    settled(held, held.turn_off(), mode="hosted")


def test_wrapped_directly_from_hosted_and_back(held: Byov) -> None:
    settled(held, held.turn_on(wrapped=True), mode="byov", wrapped=True)
    settled(held, held.turn_off(), mode="hosted")
    assert held.container.home.environment.exists()


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_a_new_file_with_another_token(held: Byov, wrapped: bool) -> None:
    settled(held, held.turn_on(wrapped=wrapped), mode="byov", wrapped=wrapped)
    old = held.token
    settled(held, held.turn_on(wrapped=wrapped), mode="byov", wrapped=wrapped)
    held.customer.revoke(old)
    save(held.container.stage, {"region": "us"})
    held.container.sync()
    assert held.get() == HELD


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_a_new_file_that_names_another_vault(held: Byov, own_vault: CustomersVault, wrapped: bool) -> None:
    settled(held, held.turn_on(wrapped=wrapped), mode="byov", wrapped=wrapped)
    first = held.token
    file = held.file(own_vault, trust_store=str(own_vault.ca))
    settled(held, held.turn_on(file=file, wrapped=wrapped), mode="byov", wrapped=wrapped)
    held.customer.revoke(first)
    save(held.container.stage, {"region": "us"})
    held.container.sync()
    assert held.get() == HELD
    own_vault.revoke(file.token)
    done = held.container.command("get", "Orders database", "password", env=held.environment)
    assert done.returncode == (82 if wrapped else 0)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_a_rotated_key_seals_the_next_store_and_still_opened_the_one_before(held: Byov, wrapped: bool) -> None:
    revision = held.turn_on(wrapped=wrapped)
    settled(held, revision, mode="byov", wrapped=wrapped)
    assert held.report().key_version == 1
    held.rotate()
    assert held.get() == HELD
    save(held.container.stage, {"region": "us"})
    held.container.sync()
    assert held.report().key_version == 2
    assert held.header().wrapped.startswith("vault:v2:")
    settled(held, revision, mode="byov", wrapped=wrapped)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_turned_on_before_anything_was_saved(byov: Byov, wrapped: bool) -> None:
    revision = byov.turn_on(wrapped=wrapped)
    byov.container.sync()
    assert byov.is_sealed_for(revision, mode="byov", wrapped=wrapped, values=0)
    assert byov.report().verdict == "ok"
    save(byov.container.stage, {"region": "eu"}, password=HELD, apiKey="another")
    settled(byov, revision, mode="byov", wrapped=wrapped)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_turned_on_and_off_while_detached(held: Byov, wrapped: bool) -> None:
    stage = held.container.stage
    atoms.detach(held.atom, actor=stage.alice)
    assert held.container.sync().result == "detached"
    revision = held.turn_on(wrapped=wrapped)
    held.container.sync()
    assert held.is_sealed_for(revision, mode="byov", wrapped=wrapped, values=0)
    assert held.report().verdict == "detached"
    atoms.attach(held.atom, stage.production, actor=stage.alice)
    settled(held, revision, mode="byov", wrapped=wrapped)
    atoms.detach(held.atom, actor=stage.alice)
    held.container.sync()
    revision = held.turn_off()
    held.container.sync()
    assert held.is_sealed_for(revision, mode="hosted", values=0)
    atoms.attach(held.atom, stage.production, actor=stage.alice)
    settled(held, revision, mode="hosted")


def test_every_node_of_a_molecule_switches_for_itself(
    another: Enrolled, portal: LivePortal, customers_vault: CustomersVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_CACERT", str(customers_vault.ca))
    stage = portal.stage
    new = atoms.create_atom(
        stage.account, name="Molecule", type="MOLECULE", environment=stage.production, actor=stage.alice
    )
    sweep()
    molecule = Atom.objects.get(pk=new.pk)
    nodes = [Byov(another(name, molecule), customers_vault, molecule) for name in ("first", "second")]
    save(stage, password=HELD, apiKey="another")
    for node in nodes:
        node.container.sync()
    file = nodes[0].file()
    for wrapped in (False, True):
        revision = nodes[0].turn_on(file=file, wrapped=wrapped)
        settled(nodes[0], revision, mode="byov", wrapped=wrapped)
        assert nodes[1].get() == HELD
        assert nodes[1].header().settings_revision == revision - 1
        settled(nodes[1], revision, mode="byov", wrapped=wrapped)
    assert len({node.header().wrapped for node in nodes}) == 2
    revision = nodes[0].turn_off()
    for node in nodes:
        settled(node, revision, mode="hosted")


# -- a switch that fails -----------------------------------------------------------------------------------------------


def pending(byov: Byov, step: str, code: str, *, mode: str, revision: int, wrapped: bool = False) -> None:
    """The switch waits and says why; what is saved meanwhile is fetched and sealed as before."""
    new = f"saved while pending, {code}"
    save(byov.container.stage, apiKey=new)
    outcome = byov.container.sync()
    assert (outcome.result, bool(outcome.pending)) == ("updated", True)
    report = byov.report()
    assert (report.verdict, byov.failed_step()) == ("switch_pending", (step, code))
    assert report.sentence == outcome.pending
    assert byov.is_sealed_for(revision, mode=mode, wrapped=wrapped)
    assert (byov.get(), byov.get("apiKey")) == (HELD, new)
    assert byov.container.sync().result == "unchanged"
    assert byov.report().verdict == "switch_pending"
    save(byov.container.stage, apiKey="another")


def test_an_unknown_ca_keeps_the_switch_pending_until_it_is_trusted(
    held: Byov, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAULT_CACERT")
    revision = held.turn_on()
    pending(held, "tls", "tls_ca", mode="hosted", revision=1)
    monkeypatch.setenv("VAULT_CACERT", str(held.customer.ca))
    settled(held, revision, mode="byov")


def test_a_sealed_vault_keeps_the_switch_pending(held: Byov, own_vault: CustomersVault) -> None:
    revision = held.turn_on(file=held.file(own_vault, trust_store=str(own_vault.ca)))
    own_vault.top.call("PUT", "sys/seal")
    pending(held, "sealed", "vault_sealed", mode="hosted", revision=1)
    unseal(own_vault)
    settled(held, revision, mode="byov")


def test_a_stopped_vault_keeps_the_switch_pending(held: Byov, own_vault: CustomersVault) -> None:
    """Nothing answers any more, though the port is open: the read timeout of the file decides."""
    settled(held, (first := held.turn_on(wrapped=True)), mode="byov", wrapped=True)
    file = held.file(own_vault, trust_store=str(own_vault.ca), read_timeout=0.5, connection_timeout=0.5)
    revision = held.turn_on(file=file, wrapped=True)
    own_vault.process.send_signal(signal.SIGSTOP)
    pending(held, "tls", "vault_timeout", mode="byov", revision=first, wrapped=True)
    own_vault.process.send_signal(signal.SIGCONT)
    settled(held, revision, mode="byov", wrapped=True)


def test_a_vault_that_is_not_there_keeps_the_switch_pending(held: Byov) -> None:
    file = held.file()
    revision = held.turn_on(file=CustomerVault(f"https://127.0.0.1:{free_port()}", file.token, file.namespace))
    pending(held, "tcp", "vault_refused", mode="hosted", revision=1)
    assert held.turn_on(file=file) == revision + 1
    settled(held, revision + 1, mode="byov")


def test_wrapped_without_decrypt_stays_plain_until_the_policy_allows_it(held: Byov) -> None:
    token = (customer := held.customer).make_token(held.key, wrapped=False)
    file = held.file(token=token)
    first = held.turn_on(file=file)
    settled(held, first, mode="byov")
    revision = held.turn_on(file=file, wrapped=True)
    pending(held, "decrypt", "wrapped_needs_decrypt", mode="byov", revision=first)
    policy = customer.root.call("POST", "auth/token/lookup", {"token": token})["data"]["policies"][0]
    text = customer.root.call("GET", f"sys/policies/acl/{policy}")["data"]["policy"]
    allowed = f'{text}\npath "transit/decrypt/{held.key}" {{ capabilities = ["update"] }}'
    customer.root.call("POST", f"sys/policies/acl/{policy}", {"policy": allowed})
    settled(held, revision, mode="byov", wrapped=True)


def test_a_missing_key_keeps_the_switch_pending_until_it_is_made(held: Byov) -> None:
    customer = held.customer
    revision = held.turn_on(
        file=CustomerVault(customer.address, customer.make_token(held.key), customer.namespace), wrapped=True
    )
    pending(held, "key", "key_missing", mode="hosted", revision=1)
    customer.make_key(held.key)
    settled(held, revision, mode="byov", wrapped=True)


def test_a_switch_that_is_pending_is_given_up_by_turning_it_off(held: Byov, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_CACERT")
    held.turn_on()
    pending(held, "tls", "tls_ca", mode="hosted", revision=1)
    settled(held, held.turn_off(), mode="hosted")


def test_a_switch_that_is_pending_ends_with_the_restore_of_a_portal_that_knows_no_such_settings(
    held: Byov, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the word of whoever restored it, the portal has lost them, and nothing is switched either."""
    monkeypatch.delenv("VAULT_CACERT")
    held.turn_on()
    pending(held, "tls", "tls_ca", mode="hosted", revision=1)
    KmsSettings.objects.all().delete()
    PropertiesFile.objects.all().delete()
    monkeypatch.setenv("VAULT_CACERT", str(held.customer.ca))  # it would succeed now
    with pytest.raises(SettingsRefused) as caught:
        held.container.sync()
    assert (caught.value.code, held.header().source) == ("settings_lower", "hosted")
    assert held.container.sync(accept_restore=True).pending == ""
    settled(held, 1, mode="hosted")


# -- a live vault that fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_new_values_wait_while_the_customers_vault_is_down(
    held: Byov, own_vault: CustomersVault, wrapped: bool
) -> None:
    file = held.file(own_vault, trust_store=str(own_vault.ca), read_timeout=0.5, connection_timeout=0.5)
    revision = held.turn_on(file=file, wrapped=wrapped)
    settled(held, revision, mode="byov", wrapped=wrapped)
    running = held.container.synchroniser()
    assert running.sync().result == "unchanged"
    store = held.container.home.store.read_bytes()
    own_vault.process.send_signal(signal.SIGSTOP)
    save(held.container.stage, apiKey="waiting")
    with pytest.raises(CustomerVaultUnavailable):
        running.sync()
    assert held.container.home.store.read_bytes() == store
    assert (held.report().verdict, held.failed_step()) == ("vault_timeout", ("tls", "vault_timeout"))
    own_vault.process.send_signal(signal.SIGCONT)
    assert running.sync().result == "updated"
    assert (held.get(), held.get("apiKey")) == (HELD, "waiting")
    assert (held.report().verdict, held.failed_step()) == ("ok", None)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_new_values_wait_for_a_new_file_when_the_token_was_revoked(held: Byov, wrapped: bool) -> None:
    settled(held, held.turn_on(wrapped=wrapped), mode="byov", wrapped=wrapped)
    running = held.container.synchroniser()
    assert running.sync().result == "unchanged"
    store = held.container.home.store.read_bytes()
    held.customer.revoke(held.token)
    save(held.container.stage, apiKey="waiting")
    with pytest.raises(CustomerVaultRefused):
        running.sync()
    assert held.container.home.store.read_bytes() == store
    assert (held.report().verdict, held.failed_step()) == ("token_invalid", ("token", "token_invalid"))
    revision = held.turn_on(wrapped=wrapped)
    assert running.sync().result == "updated"
    assert (held.get(), held.get("apiKey")) == (HELD, "waiting")
    assert held.is_sealed_for(revision, mode="byov", wrapped=wrapped)
    assert (held.report().verdict, held.failed_step()) == ("ok", None)


def test_what_was_found_at_the_vault_stays_known_when_nothing_is_new(held: Byov) -> None:
    """A sync from a timer looks at the vault only when it needs it: the portal goes on showing what was found last."""
    held.turn_on()
    held.container.sync()
    found = held.report().preflight
    assert found
    for _ in range(2):
        held.container.sync()
        assert held.report().preflight == found
    held.turn_off()
    held.container.sync()
    assert held.report().preflight == []


# -- beside others -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_reading_beside_a_switch_finds_the_store_that_is_there_then(held: Byov, wrapped: bool) -> None:
    """A `get` has read the old store when a `run` puts another one, another key and other settings in their places."""
    container = held.container
    settled(held, held.turn_on(wrapped=wrapped), mode="byov", wrapped=wrapped)
    asked: list[int] = []

    def source(header: Header) -> KeySource:
        if not asked:
            held.turn_on(wrapped=wrapped)
            container.sync()
        asked.append(header.settings_revision)
        return Parts(container.home).sources.of(header.settings_revision)

    for path in container.directory.glob("at-rest-key.*"):  # or nothing has to be asked for
        path.unlink()
    store = StoreFile(container.home, container.home.read_config(), source).read()
    assert store is not None
    assert store.header.settings_revision == held.header().settings_revision == 3
    assert HELD.encode() in store.open_all()
