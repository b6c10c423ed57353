"""Who can read, by the vault's own list: each container sees its own roles', and finds a login in its name."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from atoms import actions as atoms
from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from kmsruntime.disk.journal import Journal, write_journal
from kmsruntime.enrolment.handover import Handover
from operations.work import sweep
from tests.conftest import HostedVault
from tests.kmsruntime.container import Container

pytestmark = pytest.mark.django_db(transaction=True)


def listed(container: Container) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    done = container.command("readers", "--json")
    found = json.loads(done.stdout)
    assert found["ok"] is (done.returncode == 0)
    return done.returncode, {role["mount"]: role["readers"] for role in found["roles"]}


def slipped_in(vault: HostedVault, container: Container, node: str) -> None:
    """Somebody made a login for the container's environment, in this node's name, past the portal."""
    half = credentials.read_environment(container.home)
    metadata = json.dumps({"node": node, "atom": "1b4e28ba-2fa1-4d2b-883f-0016d3cca427", "enrolment": "x"})
    vault.root.call("POST", f"auth/environments/role/{half.environment}/secret-id", {"metadata": metadata})


def test_a_container_alone_is_its_only_reader(enrolled: Container) -> None:
    node = credentials.read_atom(enrolled.home).node
    code, found = listed(enrolled)
    assert code == 0
    assert {mount: [(one["node"], one["whose"]) for one in readers] for mount, readers in found.items()} == {
        "environments": [(node, "own")],
        "atoms": [(node, "own")],
    }
    screen = enrolled.command("readers").stdout
    assert "Production: 1 login can read what this environment holds." in screen
    assert f"node {node}" in screen
    assert "(this container)" in screen


def test_another_machine_is_seen(enrolled: Container, hosted_vault: HostedVault) -> None:
    slipped_in(hosted_vault, enrolled, "another")
    code, found = listed(enrolled)
    assert code == 0
    assert sorted(one["whose"] for one in found["environments"]) == ["other", "own"]
    assert "2 logins can read" in enrolled.command("readers").stdout


def test_a_login_in_its_own_name_that_is_not_its_own_is_told(enrolled: Container, hosted_vault: HostedVault) -> None:
    slipped_in(hosted_vault, enrolled, credentials.read_atom(enrolled.home).node)
    code, found = listed(enrolled)
    assert code == 69
    assert sorted(one["whose"] for one in found["environments"]) == ["foreign", "own"]
    done = enrolled.command("readers")
    assert "NOT THIS CONTAINER" in done.stdout
    assert "[login_foreign]" in done.stderr


def test_a_former_login_that_is_being_destroyed_is_no_intruder(enrolled: Container) -> None:
    """No worker has swept since the renewal."""
    with enrolled.home.lock():
        synchroniser = enrolled.synchroniser()
        synchroniser._renewal.fetch("renewal")
    code, found = listed(enrolled)
    assert code == 0
    assert {one["whose"] for one in found["environments"]} <= {"own", "ending"}


def test_a_login_that_it_is_taking_is_no_intruder(enrolled: Container) -> None:
    """The vault has made it, and this container has not opened it yet: it was told to revoke itself then."""
    handover = Handover(
        enrolled.synchroniser()._portal, Vault(enrolled.portal.vault_address), Journal("renewal", "", "", "")
    )
    handover.journal.sync_token = credentials.read_environment(enrolled.home).sync_token
    handover.journal.settings_token = credentials.read_atom(enrolled.home).settings_token
    while not handover.journal.grants:
        time.sleep(min(handover.advance(), 0.2))
        sweep()
    for public in (False, True):
        write_journal(enrolled.home, handover.journal, public=public)
        code, found = listed(enrolled)
        assert code == 0
        assert sorted(one["whose"] for one in found["environments"]) == ["coming", "own"]
    enrolled.home.handover.unlink()
    assert listed(enrolled)[0] == 69, "without a hand-over nothing explains it"


def test_a_detached_container_has_its_atoms_readers(enrolled: Container) -> None:
    atoms.detach(enrolled.stage.atom, actor=enrolled.stage.alice)
    enrolled.sync()
    code, found = listed(enrolled)
    assert (code, list(found)) == (0, ["atoms"])


def test_what_the_vault_was_told_is_printed_as_text(enrolled: Container, hosted_vault: HostedVault) -> None:
    slipped_in(hosted_vault, enrolled, "evil\x1b[2J\nnode")
    screen = enrolled.command("readers").stdout
    assert "\x1b" not in screen
    assert not any(line.startswith("node") for line in screen.splitlines())
