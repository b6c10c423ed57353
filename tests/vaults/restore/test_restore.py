"""The restore drill: older database and newer vault, the reverse, and both older on a new machine.

Every value opens byte-identically at a runtime or is named as one to enter again, and no runtime is bricked.
"""

import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from kmsruntime.errors import PortalRefused
from tests.kmsruntime.container import Container
from tests.live import LivePortal
from tests.vaults.restore.installation import Installation, new_installation

pytestmark = pytest.mark.slow
PASSWORD, API_KEY = "Orders database/password", "Orders database/apiKey"
OLD, NEW, KEY = "päss\nword of the backup ", "password of after the backup", "an API key that nobody changed"


@dataclass
class Drill:
    """The installation as it was when the disaster came, the backup, and the containers' directories."""

    last: Installation
    backup: Path
    containers: Path
    account: str

    def container(self, portal: LivePortal, name: str, tmp_path: Path) -> Container:
        """A copy of a container as it was, for each scenario anew."""
        shutil.copytree(self.containers / name, tmp_path / name, symlinks=True)
        return Container(portal, tmp_path / name)


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Drill:
    root = tmp_path_factory.mktemp("drill")
    machine, containers = new_installation(root / "first"), root / "containers"
    containers.mkdir()
    with machine.vault() as vault:
        account = machine.step("setup")["account"]
        with machine.portal(vault) as portal:
            first, second, third, late = (
                Container(portal, containers / name) for name in ("one", "two", "three", "late")
            )
            tokens = machine.step("tokens", atoms=["Orders Atom", "Second Atom", "Third Atom", "Late Atom"])
            machine.step("set_values", password=OLD, apiKey=KEY)
            for container, atom in ((first, "Orders Atom"), (second, "Second Atom"), (third, "Third Atom")):
                assert container.enrol_with(tokens[atom]).returncode == 0
                container.sync()
            machine.step("revoke", atom="Third Atom")
            said = machine.manage("backup", "--to", str(root / "backups"), credentials="backup")
            backup = next((root / "backups").iterdir())
            assert str(backup) in said
            machine.step("set_values", password="in between")
            machine.step("set_values", password=NEW)
            assert machine.step("rotate") == {"unfinished": 0, "version": 2}
            assert late.enrol_with(tokens["Late Atom"]).returncode == 0
            for container in (first, late):
                assert synced(container).values()[PASSWORD] == NEW
            machine.step("revoke", atom="Second Atom")
    return Drill(machine, backup, containers, account)


def synced(container: Container) -> Container:
    container.sync()
    return container


def is_refused(container: Container) -> bool:
    """By the portal itself, which does not know its credential."""
    try:
        container.sync()
    except PortalRefused:
        return True
    return False


def after_restore(machine: Installation, drill: Drill, *options: str) -> str:
    words = ("--credentials", str(machine.var / "credentials"), "--from", str(drill.backup), *options)
    said = machine.manage("after_restore", *words, credentials="web")
    assert f"{drill.account}: the audit log goes on from the backup's" in said
    assert "vault:v" not in said
    assert drill.account in machine.manage("verify_audit")
    return said


def test_a_backup_is_private_whole_and_says_what_is_not_in_it(drill: Drill) -> None:
    assert stat.S_IMODE(drill.backup.stat().st_mode) == 0o700
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in drill.backup.iterdir()}
    assert names == {"backup.json": 0o600, "portal.sqlite3": 0o600, "vault.snapshot": 0o600}
    for needle in (OLD.encode(), KEY.encode()):
        assert all(needle not in path.read_bytes() for path in drill.backup.iterdir())
    assert b"vault:v1:" not in (drill.backup / "portal.sqlite3").read_bytes(), "I2"


def test_an_older_database_and_the_newer_vault(drill: Drill, tmp_path: Path) -> None:
    machine = drill.last.moved(tmp_path / "a", database=True, vault=True)
    machine.manage(*("restore", "--from", str(drill.backup), "--only", "database", "--var", str(machine.var), "--yes"))
    assert len(list(machine.var.glob("portal.sqlite3.before-*"))) == 1
    with machine.vault() as vault:
        said = after_restore(machine, drill, "--adopt")
        assert "of Second Atom was cut off after the backup; it is revoked again" in said
        assert "is not known here" in said
        found = machine.step("look")
        assert (found["lost"], found["lost_keys"], found["taken_back_and_there"]) == ([], 0, 0)
        assert found["revision"] > 1000
        with machine.portal(vault) as portal:
            one = synced(drill.container(portal, "one", tmp_path))
            assert (one.values()[PASSWORD], one.values()[API_KEY]) == (OLD, KEY)
            words = ("restore", "--from", str(drill.backup), "--only", "database", "--yes")
            assert "stop it first" in machine.manage(*words, fails=True)
            for name in ("two", "three", "late"):
                assert is_refused(drill.container(portal, name, tmp_path)), name
            machine.step("set_values", password="and on it goes")
            assert synced(one).values()[PASSWORD] == "and on it goes"


def test_the_newer_database_and_an_older_vault(drill: Drill, tmp_path: Path) -> None:
    machine = drill.last.moved(tmp_path / "b", database=True, vault=True)
    machine.manage(*("restore", "--from", str(drill.backup), "--only", "vault", "--var", str(machine.var), "--yes"))
    assert len(list((machine.var / "openbao").glob("raft.before-*"))) == 1
    with machine.vault() as vault:
        said = after_restore(machine, drill)
        assert "values to be entered again, all on the re-entry worklist: 1." in said
        assert "Production / Orders database / Password" in said
        found = machine.step("look")
        assert found["lost"] == ["Password"]
        assert found["taken_back_and_there"] == 0, "what was revoked is destroyed again"
        with machine.portal(vault) as portal:
            one, late = (synced(drill.container(portal, name, tmp_path)) for name in ("one", "late"))
            for container in (one, late):  # what they hold they keep
                assert (container.values()[PASSWORD], container.values()[API_KEY]) == (NEW, KEY)
            for name in ("two", "three"):
                assert is_refused(drill.container(portal, name, tmp_path)), name
            fresh = Container(portal, tmp_path / "fresh")
            assert fresh.enrol_with(machine.step("tokens", atoms=["Second Atom"])["Second Atom"]).returncode == 0
            assert synced(fresh).values()[PASSWORD] == "lost"
            machine.step("set_values", password="entered again")
            for container in (one, late, fresh):
                assert synced(container).values()[PASSWORD] == "entered again"
            assert machine.step("look")["lost"] == []


def test_both_older_on_a_new_machine(drill: Drill, tmp_path: Path) -> None:
    machine = drill.last.moved(tmp_path / "c", database=False, vault=False)
    machine.manage("restore", "--from", str(drill.backup), "--var", str(machine.var), "--yes")
    with machine.vault() as vault:
        said = after_restore(machine, drill)
        assert "is not known here" in said
        assert "is revision" not in after_restore(machine, drill), "it may be done twice"
        found = machine.step("look")
        assert (found["lost"], found["lost_keys"], found["taken_back_and_there"]) == ([], 0, 0)
        with machine.portal(vault) as portal:
            one = synced(drill.container(portal, "one", tmp_path))  # it had seen higher revisions
            assert (one.values()[PASSWORD], one.values()[API_KEY]) == (OLD, KEY)
            for name in ("three", "late"):
                assert is_refused(drill.container(portal, name, tmp_path)), name
