"""Attach, move, detach, revoke, lose: what the container holds follows, wiped before anything else happens."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import time_machine

from atoms import actions as atoms
from atoms.models import Atom, Node
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from kmsruntime.errors import HostedVaultUnavailable, PortalRefused
from operations.work import sweep
from tests.conftest import HostedVault
from tests.kmsruntime.conftest import Enrolled
from tests.kmsruntime.container import Container, save
from tests.servers import free_port
from vaults.models import ContainerReport, SecretId

pytestmark = pytest.mark.django_db(transaction=True)


def fetched(container: Container, **values: str) -> Container:
    save(container.stage, **values)
    container.sync()
    return container


def test_moving_wipes_the_old_values_and_fetches_the_new_ones(enrolled: Container) -> None:
    stage = enrolled.stage
    fetched(enrolled, password="production")
    before = credentials.read_environment(enrolled.home)
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    enrolled.sync()
    assert enrolled.values() == {}
    after = credentials.read_environment(enrolled.home)
    assert (after.environment, after.login is not None) == (str(stage.test.pk), True)
    assert after.attachment_revision > before.attachment_revision
    assert any("wiped" in line for line in enrolled.lines)


def test_the_wipe_comes_first_even_if_nothing_else_works(enrolled: Container) -> None:
    stage = enrolled.stage
    fetched(enrolled, password="production-canary")
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    config = enrolled.home.read_config()
    enrolled.home.write_config(replace(config, vault=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(HostedVaultUnavailable):
        enrolled.sync()
    assert enrolled.values() == {}
    assert not list(enrolled.directory.glob("at-rest-key.*"))
    report = ContainerReport.objects.get()
    assert (report.values, report.environment, report.verdict) == (0, None, "vault_unreachable")
    enrolled.home.write_config(config)
    assert enrolled.sync().result == "updated"


def test_a_damaged_store_is_wiped_too(enrolled: Container) -> None:
    stage = enrolled.stage
    fetched(enrolled, password="one")
    content = bytearray(enrolled.home.store.read_bytes())
    content[-1] ^= 1
    enrolled.home.store.write_bytes(bytes(content))
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    config = enrolled.home.read_config()
    enrolled.home.write_config(replace(config, vault=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(HostedVaultUnavailable):
        enrolled.sync()
    assert enrolled.values() == {}
    assert not list(enrolled.directory.glob("at-rest-key.*"))


def test_detaching_wipes_and_reports(enrolled: Container) -> None:
    stage = enrolled.stage
    fetched(enrolled, password="production")
    atoms.detach(stage.atom, actor=stage.alice)
    assert enrolled.sync().result == "detached"
    assert enrolled.values() == {}
    report = ContainerReport.objects.get()
    assert (report.verdict, report.values, report.environment, report.sealed_at) == ("detached", 0, None, None)
    assert enrolled.sync().result == "unchanged"
    done = enrolled.command("get", "Orders database", "password")
    assert (done.returncode, "[nothing_held]" in done.stderr) == (79, True)
    atoms.attach(stage.atom, stage.production, actor=stage.alice)
    enrolled.sync()
    assert enrolled.values()["Orders database/password"] == "production"


def test_a_detached_container_goes_on_saying_so(enrolled: Container) -> None:
    """The portal has nothing new for it (304), and it still holds nothing."""
    fetched(enrolled, password="one")
    atoms.detach(enrolled.stage.atom, actor=enrolled.stage.alice)
    for result in ("detached", "unchanged", "unchanged"):
        assert enrolled.sync().result == result
        assert enrolled.status()["verdict"] == ContainerReport.objects.get().verdict == "detached"


def test_away_and_back_while_the_container_was_off(enrolled: Container) -> None:
    """The environment is the same, the secret_ids for it are destroyed all the same."""
    stage = enrolled.stage
    fetched(enrolled, password="one")
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    atoms.attach(stage.atom, stage.production, actor=stage.alice)
    sweep()
    save(stage, password="two")
    enrolled.sync()
    assert enrolled.values()["Orders database/password"] == "two"


def test_the_memory_of_revisions_survives_leaving(enrolled: Container) -> None:
    stage = enrolled.stage
    fetched(enrolled, password="one")
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    enrolled.sync()
    type(stage.production).objects.filter(pk=stage.production.pk).update(extensions_revision=0)
    from extensions.models import EnvironmentManifest, ExtensionValue

    EnvironmentManifest.objects.all().delete()
    ExtensionValue.objects.all().delete()
    atoms.attach(stage.atom, stage.production, actor=stage.alice)
    done = enrolled.command("sync")
    assert (done.returncode, "[revision_lower]" in done.stderr) == (66, True)
    assert enrolled.command("sync", "--accept-restore").returncode == 0
    assert enrolled.command("sync").returncode == 0


def test_a_revoked_node_is_told_and_keeps_working_from_its_store(enrolled: Container) -> None:
    fetched(enrolled, password="kept")
    atoms.revoke_node(Node.objects.get(), actor=enrolled.stage.alice)
    with pytest.raises(PortalRefused) as caught:
        enrolled.sync()
    assert caught.value.code == "credential_unknown"
    done = enrolled.command("sync")
    assert (done.returncode, done.stderr.count("\n"), "[credential_unknown]" in done.stderr) == (71, 1, True)
    assert "remove the container's directory or move it away" in done.stderr
    assert "enrol with a new installer token" in done.stderr
    assert enrolled.values()["Orders database/password"] == "kept"
    assert enrolled.status()["verdict"] == "credential_unknown"


def test_destroyed_vault_credentials_are_asked_for_again(enrolled: Container, hosted_vault: HostedVault) -> None:
    fetched(enrolled, password="one")
    half = credentials.read_environment(enrolled.home)
    assert half.login is not None
    for login in (half.login, credentials.read_atom(enrolled.home).login):
        path = f"auth/{login.mount}/role/{login.recipient}/secret-id-accessor/destroy"
        hosted_vault.root.call("POST", path, {"secret_id_accessor": login.accessor})
    save(enrolled.stage, password="two")
    enrolled.sync()
    assert enrolled.values()["Orders database/password"] == "two"
    assert any("asking for new ones" in line for line in enrolled.lines)


def age(container: Container, *, seconds: int) -> None:
    """Make both secret_ids older by the vault's clock, as if the container had run for that long."""
    atom, environment = credentials.read_atom(container.home), credentials.read_environment(container.home)
    assert environment.login is not None
    older = replace(environment.login, issued=environment.login.issued - seconds)
    credentials.write_environment(container.home, replace(environment, login=older))
    credentials.write_atom(container.home, replace(atom, login=replace(atom.login, issued=atom.login.issued - seconds)))


def test_secret_ids_are_renewed_before_their_last_third(enrolled: Container) -> None:
    fetched(enrolled, password="one")
    old = credentials.read_environment(enrolled.home).login
    assert old is not None
    assert old.seconds == 768 * 3600
    age(enrolled, seconds=int(old.seconds * 0.6))
    enrolled.home.state.unlink()
    enrolled.sync()
    assert credentials.read_environment(enrolled.home).login == replace(old, issued=old.issued - int(old.seconds * 0.6))
    age(enrolled, seconds=int(old.seconds * 0.1))
    enrolled.home.state.unlink()
    enrolled.sync()
    new = credentials.read_environment(enrolled.home).login
    assert new is not None
    assert new.accessor != old.accessor
    assert abs(new.issued - Vault(enrolled.portal.vault_address).server_time()) < 60
    assert SecretId.objects.get(accessor=old.accessor).superseded_at is not None
    deadline = time.monotonic() + 20
    while SecretId.objects.get(accessor=old.accessor).destroyed_at is None and time.monotonic() < deadline:
        time.sleep(0.2)
    with pytest.raises(VaultRefused):
        Vault(enrolled.portal.vault_address).login(old.mount, old.role_id, old.secret_id)


@pytest.mark.parametrize("years", [-20, 20])
def test_a_jump_of_this_machines_clock_changes_nothing_but_what_is_shown(enrolled: Container, years: int) -> None:
    fetched(enrolled, password="one")
    held = credentials.read_environment(enrolled.home)
    with time_machine.travel(time.time() + years * 365 * 86400):
        assert enrolled.sync().result == "unchanged"
        save(enrolled.stage, password="two")
        enrolled.sync()
    assert enrolled.values()["Orders database/password"] == "two"
    assert credentials.read_environment(enrolled.home) == held
    assert enrolled.status()["verdict"] in ("ok", "contact_old")


def test_a_molecule_has_several_nodes_of_one_atom_each_with_keys_of_its_own(another: Enrolled, portal: object) -> None:
    stage = another("warm-up").stage
    atom = atoms.create_atom(
        stage.account, name="Molecule", type="MOLECULE", environment=stage.production, actor=stage.alice
    )
    sweep()
    atom = Atom.objects.get(pk=atom.pk)
    nodes = [another("first", atom), another("second", atom)]
    save(stage, password="shared")
    for node in nodes:
        node.sync()
        assert node.values()["Orders database/password"] == "shared"
    assert ContainerReport.objects.filter(node__atom=atom, verdict="ok", revision=1).count() == 2
    keys = [next(node.directory.glob("at-rest-key.*")).read_bytes() for node in nodes]
    assert keys[0] != keys[1]


def test_two_atoms_never_share_a_store(another: Enrolled) -> None:
    first = fetched(another("first"), password="one")
    other = another("other", first.stage.second)
    for path in [first.home.store, *first.directory.glob("at-rest-key.*")]:
        (other.directory / path.name).write_bytes(path.read_bytes())
        (other.directory / path.name).chmod(0o600)
    before = other.home.store.read_bytes()
    done = other.command("sync")
    assert (done.returncode, "[store_foreign]" in done.stderr) == (76, True)
    assert other.home.store.read_bytes() == before
