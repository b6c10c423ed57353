"""Root in somebody else's directory: by whatever lies there, it does nothing that the owner could not do.

Each of these was an attack that succeeded with root's rights.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kmsruntime.disk.home import Config, Home
from tests.live import ROOT

NOBODY = 65534
CONFIG = Config("https://portal.example", "https://vault.example")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than others")


@pytest.fixture
def theirs(tmp_path: Path) -> Home:
    """A container's directory of nobody's, in a place where everybody may go."""
    for one in (tmp_path, *tmp_path.parents):
        if one.stat().st_uid == 0 and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o011)
    (tmp_path / "of_nobody").mkdir(mode=0o755)
    home = Home(tmp_path / "of_nobody" / "kms")
    home.directory.mkdir(mode=0o700)
    home.write_config(CONFIG)
    hand_over(tmp_path / "of_nobody")
    return home


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Root's own directory, with two files."""
    found = tmp_path / "root_only"
    found.mkdir(mode=0o700)
    for name in ("resolv.conf", f"resolv.{'0' * 8}-0000-0000-0000-{'0' * 12}", "config.json"):
        (found / name).write_bytes(b"root's own")
    return found


def hand_over(directory: Path) -> None:
    for one in (directory, *directory.rglob("*")):
        os.chown(one, NOBODY, NOBODY, follow_symlinks=False)


def as_root(*words: str, home: Home, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kmsruntime", words[0], "--dir", str(home.directory), *words[1:]]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=30, check=False)


def untouched(victim: Path) -> bool:
    found = [victim, *victim.iterdir()]
    return len(found) == 4 and all(
        one.lstat().st_uid == 0 and (one.is_dir() or one.read_bytes() == b"root's own") for one in found
    )


def test_what_root_writes_is_the_owners(theirs: Home) -> None:
    done = as_root("allow-vault", "https://a.example", home=theirs)
    assert done.returncode == 0, done.stderr
    assert {(one.stat().st_uid, one.stat().st_gid) for one in theirs.directory.iterdir()} == {(NOBODY, NOBODY)}


def test_a_key_file_elsewhere_removes_nothing_there(theirs: Home, victim: Path) -> None:
    theirs.write_config(replace(CONFIG, key_file=str(victim / "resolv")))
    hand_over(theirs.directory)
    for words in (("sync",), ("status",), ("allow-vault", "https://a.example")):
        as_root(*words, home=theirs)
        assert untouched(victim)


@pytest.mark.parametrize("words", [("allow-vault", "https://a.example"), ("sync",), ("status",)])
def test_a_link_in_place_of_the_directory_leads_nowhere(theirs: Home, victim: Path, words: tuple[str, ...]) -> None:
    theirs.directory.rename(theirs.directory.with_name("moved"))
    theirs.directory.symlink_to(victim)
    hand_over(theirs.directory.parent)
    assert as_root(*words, home=theirs).returncode != 0
    assert untouched(victim)


def test_enrolling_through_a_link_closes_nobodys_directory(theirs: Home, tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    roots.mkdir(mode=0o755)
    through = Home(theirs.directory.parent / "new")
    through.directory.symlink_to(roots)
    os.chown(through.directory, NOBODY, NOBODY, follow_symlinks=False)
    words = ("enrol", "--portal", "https://localhost:1", "--vault", "https://localhost:1")
    assert as_root(*words, home=through, text="kms-token").returncode != 0
    assert (list(roots.iterdir()), roots.stat().st_mode & 0o777) == ([], 0o755)


@pytest.mark.parametrize("name", ["config.json", "store", "state.json", "lock", "atom.json"])
def test_a_pipe_holds_nobody_up(theirs: Home, name: str) -> None:
    (theirs.directory / name).unlink(missing_ok=True)
    os.mkfifo(theirs.directory / name)
    hand_over(theirs.directory)
    for words in (("status",), ("sync",), ("allow-vault", "https://a.example"), ("get", "a", "b")):
        assert "Traceback" not in as_root(*words, home=theirs).stderr


def test_a_program_that_root_starts_has_roots_rights_again() -> None:
    code = (
        "import os; from pathlib import Path; from kmsruntime.disk import rights\n"
        f"rights._become({NOBODY}, {NOBODY}); before = os.geteuid(), os.getgroups()\n"
        "rights.work_as_oneself(); print(before, os.geteuid(), os.getegid(), 0 in os.getgroups())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == f"({NOBODY}, []) 0 0 True\n", done.stderr
