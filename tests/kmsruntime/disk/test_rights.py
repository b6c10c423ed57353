"""Root in somebody else's directory: by whatever lies there, it does nothing that the owner could not do, and all that he could.

Each of these was an attack that succeeded with root's rights, or ended in what nobody had foreseen.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from kmscore.byov.customer import CustomerVault
from kmsruntime.disk.home import Home
from kmsruntime.disk.rights import NOBODYS_GROUP, PACKAGES
from tests.kmscore.byov.situations import serving
from tests.kmsruntime.container import Container, bring_your_own_vault
from tests.kmsruntime.disk import roots
from tests.kmsruntime.disk.roots import ALLOW, CONFIG, NOBODY, PYTHON, as_root, hand_over, untouched
from tests.kmsruntime.pieces import at_rest_key, header, sealed, store_file
from tests.live import ROOT, LivePortal

pytestmark = roots.only_root


def test_what_root_writes_is_the_owners(theirs: Home) -> None:
    done = as_root(*ALLOW, home=theirs.directory)
    assert done.returncode == 0, done.stderr
    assert {(one.stat().st_uid, one.stat().st_gid) for one in theirs.directory.iterdir()} == {(NOBODY, NOBODY)}


def test_a_key_file_elsewhere_removes_nothing_there(theirs: Home, victim: Path) -> None:
    theirs.write_config(replace(CONFIG, key_file=str(victim / "resolv")))
    hand_over(theirs.directory)
    for words in (("sync",), ("status",), ALLOW):
        as_root(*words, home=theirs.directory)
        assert untouched(victim)


@pytest.mark.parametrize("words", [ALLOW, ("sync",), ("status",)])
def test_a_link_in_place_of_the_directory_leads_nowhere(theirs: Home, victim: Path, words: tuple[str, ...]) -> None:
    theirs.directory.rename(theirs.directory.with_name("moved"))
    theirs.directory.symlink_to(victim)
    hand_over(theirs.directory.parent)
    assert as_root(*words, home=theirs.directory).returncode != 0
    assert untouched(victim)


def test_enrolling_through_a_link_closes_nobodys_directory(theirs: Home, passable: Path) -> None:
    opened = passable / "opened"
    opened.mkdir(mode=0o755)
    through = theirs.directory.parent / "new"
    through.symlink_to(opened)
    os.chown(through, NOBODY, NOBODY, follow_symlinks=False)
    words = ("enrol", "--portal", "https://localhost:1", "--vault", "https://localhost:1")
    assert as_root(*words, home=through, text="kms-token").returncode != 0
    assert (list(opened.iterdir()), opened.stat().st_mode & 0o777) == ([], 0o755)


@pytest.mark.parametrize("name", ["config.json", "store", "state.json", "lock", "atom.json"])
def test_a_pipe_holds_nobody_up(theirs: Home, name: str) -> None:
    (theirs.directory / name).unlink(missing_ok=True)
    os.mkfifo(theirs.directory / name)
    hand_over(theirs.directory)
    for words in (("status",), ("sync",), ALLOW, ("get", "a", "b")):
        said = as_root(*words, home=theirs.directory).stderr
        assert "Traceback" not in said
        assert "unforeseen" not in said


# -- which groups ------------------------------------------------------------------------------------------------------


def test_root_has_the_groups_that_the_owner_is_in(theirs: Home, passable: Path) -> None:
    """In a view of the machine of its own, where nobody is in a group more."""
    number = next(n for n in range(40_000, 60_000) if n not in {group.gr_gid for group in grp.getgrall()})
    groups = passable / "group"
    groups.write_text(f"{Path('/etc/group').read_text()}holders:x:{number}:{pwd.getpwuid(NOBODY).pw_name}\n")
    groups.chmod(0o644)
    (passable / "held").mkdir(mode=0o710)
    os.chown(passable / "held", 0, number)
    theirs.directory.rename(passable / "held" / "kms")
    alone = ("unshare", "--mount", "sh", "-c", f'mount --bind {groups} /etc/group && exec "$@"', "sh")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    done = as_root(*ALLOW, home=passable / "held" / "kms", before=alone)
    assert done.returncode == 0, done.stderr
    assert as_root(*ALLOW, home=passable / "held" / "kms").returncode == 77, "nobody is in no such group here"


def test_a_directorys_group_is_not_its_owners(passable: Path) -> None:
    """An attack that succeeded: of a user without an entry it was taken that he is in the group of whatever he owns."""
    users, groups = {user.pw_uid for user in pwd.getpwall()}, {group.gr_gid for group in grp.getgrall()}
    unknown = next(n for n in range(40_000, 60_000) if n not in users | groups)
    number_of_a_group = next((n for n in groups - users if n), None)
    for user, group in ((unknown, unknown), (number_of_a_group, NOBODYS_GROUP)):
        if user is not None:
            home = Home(passable / f"of_{user}")
            home.directory.mkdir(mode=0o700)
            home.write_config(CONFIG)
            hand_over(home.directory, user, max(groups - {NOBODYS_GROUP}))
            assert as_root(*ALLOW, home=home.directory).returncode == 0
            assert home.config.stat().st_gid == group


# -- what root brings along --------------------------------------------------------------------------------------------


def test_root_starts_no_program_that_gets_what_somebody_else_chose(passable: Path) -> None:
    """No list knows every variable that makes some program of root's run something, and the owner chooses the names."""
    home, ran = passable / "kms", passable / "ran"
    file = store_file(home)
    file.write(header(), [sealed("Some program", "rc", "/home/nobody/rc")], file.prepare(at_rest_key()))
    hand_over(home)
    done = as_root("exec", "--", "sh", "-c", f"echo $SOME_PROGRAM_RC > {ran}", home=home)
    assert (done.returncode, "start this as nobody. [directory_foreign]" in done.stderr) == (77, True), done.stderr
    assert not ran.exists()
    hand_over(home, 0, 0)
    assert as_root("exec", "--", "touch", str(ran), home=home).returncode == 0
    assert ran.exists()


@pytest.mark.django_db(transaction=True)
def test_no_variable_of_roots_goes_where_somebody_else_says(portal: LivePortal, passable: Path) -> None:
    """Sent as a token, to a vault of the owner's, because his config.json and his Atom's file asked for it."""
    machine, came = Container(portal, passable / "kms").enrol(), list[bytes]()

    def listen(connection: socket.socket) -> None:
        came.append(connection.recv(65536))
        body = b'{"initialized": true, "sealed": false, "version": "2"}'
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    with serving(listen) as port:
        vault = CustomerVault(f"http://127.0.0.1:{port}", "${ROOTS_SECRET}")
        bring_your_own_vault(machine.stage, machine.stage.atom, vault)
        machine.command("allow-vault", vault.uri, "--allow-env", "ROOTS_SECRET")
        for owner in (NOBODY, 0):
            hand_over(machine.directory, owner, owner)
            for words in (("check",), ("sync",)):
                done = as_root(*words, home=machine.directory, ROOTS_SECRET="canary")
                assert ("ROOTS_SECRET is not set" in done.stderr) == bool(owner), done.stderr
            assert any(b"canary" in text for text in came) == (not owner)


# -- where root cannot be the owner ------------------------------------------------------------------------------------


@pytest.fixture
def closed(passable: Path) -> Path:
    """A directory of root's, as /root is."""
    found = passable / "closed"
    found.mkdir(mode=0o700)
    return found


def test_an_interpreter_that_the_owner_cannot_read_is_named(theirs: Home, closed: Path) -> None:
    (closed / "lib").mkdir()
    library = subprocess.run(
        [str(PYTHON), "-c", "import os; print(os.__file__)"], capture_output=True, text=True, check=True
    )
    (closed / "lib" / "python3.11").symlink_to(Path(library.stdout).parent)
    for words in (("sync",), ("status",), ALLOW):
        done = as_root(*words, home=theirs.directory, PYTHONHOME=str(closed))
        assert (done.returncode, done.stderr.count("\n")) == (77, 1), done.stderr
        assert f"cannot read {closed}," in done.stderr


def test_a_library_that_the_owner_cannot_read_is_named(theirs: Home, closed: Path, passable: Path) -> None:
    """Of those, too, that are loaded only when they are needed."""
    (passable / "open").mkdir(mode=0o755)
    for found in roots.PACKAGES.iterdir():
        (closed if found.name == "urllib3" else passable / "open").joinpath(found.name).symlink_to(found)
    everywhere = f"{roots.PROGRAM}:{passable / 'open'}:{closed}"
    done = as_root("sync", home=theirs.directory, python=("-S",), PYTHONPATH=everywhere)
    assert done.returncode == 77, done.stderr
    assert f"cannot read {closed}," in done.stderr


def test_what_python_does_without_may_be_closed(theirs: Home, passable: Path) -> None:
    """Root with a umask of 077 leaves such a directory wherever it was the first to run something."""
    (passable / "open" / "certifi" / "__pycache__").mkdir(parents=True)
    (passable / "open" / "certifi" / "__init__.py").touch()
    for part in (passable / "open", passable / "open" / "certifi"):
        part.chmod(0o755)
    (passable / "open" / "certifi" / "__pycache__").chmod(0o700)
    done = as_root(*ALLOW, home=theirs.directory, PYTHONPATH=f"{passable / 'open'}:{roots.PROGRAM}:{roots.PACKAGES}")
    assert done.returncode == 0, done.stderr


def test_the_libraries_that_are_looked_at_are_those_that_the_container_needs() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {text.partition(">")[0].partition("[")[0] for text in wanted}
    assert set(PACKAGES) == names | {"kmscore", "kmsruntime"}


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.parametrize("missing", ["-setuid", "-setgid", "-setuid,-setgid"])
def test_a_root_that_may_become_nobody_else_is_told_what_to_do(theirs: Home, missing: str) -> None:
    done = as_root(*ALLOW, home=theirs.directory, before=("setpriv", f"--bounding-set={missing}"))
    assert (done.returncode, done.stderr.count("\n")) == (77, 1), done.stderr
    assert "start this as nobody" in done.stderr
