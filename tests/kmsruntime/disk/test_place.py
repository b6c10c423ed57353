"""Which directory it is, whose rights root has there, and that nobody else leads root elsewhere.

Each of these was an attack that succeeded with root's rights.
"""

from __future__ import annotations

import os
import shlex
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kmsruntime.disk.home import Home
from kmsruntime.disk.place import settled
from kmsruntime.disk.rights import is_alone
from kmsruntime.errors import StorageFailed
from tests.kmsruntime.disk.roots import ALLOW, CONFIG, NOBODY, as_root, hand_over, only_root, untouched

OTHER = 54321  # a third, besides root and nobody


def owners(directory: Path) -> set[int]:
    return {one.lstat().st_uid for one in directory.iterdir()}


def make_home(directory: Path) -> Home:
    """Root's own."""
    directory.mkdir(mode=0o700, parents=True)
    home = Home(directory)
    home.write_config(CONFIG)
    return home


def refused(home: Path, *says: str) -> None:
    before = sorted(home.iterdir()) if home.exists() else []
    done = as_root(*ALLOW, home=home)
    assert done.returncode == 77
    for part in (*says, "--dir"):
        assert part in done.stderr
    assert before == (sorted(home.iterdir()) if home.exists() else [])


# -- the way there -----------------------------------------------------------------------------------------------------


@only_root
def test_the_default_directory_is_judged_where_it_is(theirs: Home) -> None:
    theirs.directory.rename(theirs.directory.with_name(".kms-runtime"))
    at_home = theirs.directory.parent
    assert as_root(*ALLOW, cwd=Path("/"), HOME=str(at_home)).returncode == 0
    assert owners(at_home / ".kms-runtime") == {NOBODY}


@only_root
def test_where_root_stands_does_not_make_roots_directory_somebody_elses(theirs: Home, passable: Path) -> None:
    home = make_home(passable / "of_root" / ".kms-runtime")
    assert as_root(*ALLOW, cwd=theirs.directory.parent, HOME=str(passable / "of_root")).returncode == 0
    assert owners(home.directory) == {0}


@only_root
@pytest.mark.parametrize("words", [ALLOW, ("sync",)])
def test_roots_own_link_leads_into_a_directory_that_is_its_owners(
    theirs: Home, passable: Path, victim: Path, words: tuple[str, ...]
) -> None:
    (passable / "link").symlink_to(theirs.directory)
    theirs.write_config(replace(CONFIG, key_file=str(victim / "resolv")))
    hand_over(theirs.directory)
    as_root(*words, home=passable / "link")
    assert owners(theirs.directory) == {NOBODY}
    assert untouched(victim)


@only_root
def test_dots_behind_a_link_are_counted_from_where_it_leads(theirs: Home, passable: Path) -> None:
    (theirs.directory.parent / "sub").mkdir()
    (passable / "link").symlink_to(theirs.directory.parent / "sub")
    assert as_root(*ALLOW, home=passable / "link" / ".." / "kms").returncode == 0
    assert owners(theirs.directory) == {NOBODY}


@only_root
def test_somebodys_link_to_roots_directory_opens_nothing(theirs: Home, passable: Path) -> None:
    home = make_home(passable / "of_root" / "kms")
    (theirs.directory.parent / "link").symlink_to(home.directory)
    hand_over(theirs.directory.parent)
    done = as_root(*ALLOW, home=theirs.directory.parent / "link")
    assert (done.returncode, "Permission denied" in done.stderr) == (77, True)
    assert owners(home.directory) == {0}


@pytest.mark.parametrize("name", ["circle", "gone/../kms", "a_file/kms"])
def test_a_path_that_leads_nowhere_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "a_file").touch()
    with pytest.raises(StorageFailed):
        settled(tmp_path / name)


def test_what_is_not_there_yet_is_where_it_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    for written in ("link/a/b", "./real/../link/a/b", "~/a/b"):
        assert settled(Path(written)) == tmp_path / "real" / "a" / "b"


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StorageFailed, match="in full"):
        settled(Path("kms"))


# -- who else could put another directory there ------------------------------------------------------------------------


@only_root
@pytest.mark.parametrize("mode", [0o777, 0o2775, 0o770])
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_root_works_in_no_place_that_others_can_swap(passable: Path, mode: int, owner: int) -> None:
    home = make_home(passable / "open" / "between" / "kms")
    hand_over(passable / "open", owner, OTHER)
    for part in (passable / "open", home.directory):
        part.chmod(mode)
        refused(home.directory, f"chmod go-w {part}")
        part.chmod(0o755)


@only_root
def test_the_group_that_holds_nobody_else_may_write(passable: Path) -> None:
    """Many machines give every user a group of his own, and let it write."""
    home = make_home(passable / "open" / "kms")
    home.directory.parent.chmod(0o775)
    hand_over(home.directory.parent, OTHER, OTHER)
    assert as_root(*ALLOW, home=home.directory).returncode == 0
    entries = [(1, 7, -1), (2, 7, NOBODY), (4, 5, -1), (16, 7, -1), (32, 5, -1)]  # setfacl -m u:nobody:rwx
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(home.directory.parent, "system.posix_acl_access", listed)
    except OSError:
        pytest.skip("no access lists on this file system")
    refused(home.directory, "chmod go-w")


@only_root
@pytest.mark.parametrize(
    ("user", "group", "alone"),
    [(OTHER, OTHER, True), (OTHER, OTHER + 1, False), (OTHER, 0, False), (0, OTHER, False), (NOBODY, 0, False)],
)
def test_a_group_is_a_users_own_or_others(user: int, group: int, *, alone: bool) -> None:
    assert is_alone(user, group) == alone


@only_root
def test_nobody_else_swaps_a_part_of_somebodys_path(theirs: Home) -> None:
    """Root would do with the one's rights what the other wants."""
    os.chown(theirs.directory, OTHER, OTHER)
    refused(theirs.directory, f"belongs to user {OTHER}", "nobody")


@only_root
def test_in_a_sticky_directory_a_directory_is_safe_once_it_is_there(passable: Path) -> None:
    temporary = passable / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    for missing in (temporary, temporary / "kms", temporary / "kms" / "deeper", temporary / "x" / "kms"):
        refused(missing, "mkdir -m 700")
    of_root, of_nobody = make_home(temporary / "of_root"), make_home(temporary / "of_nobody")
    refused(of_root.directory / ".." / "kms", "mkdir -m 700")
    hand_over(of_nobody.directory)
    for home, owner in ((of_root, 0), (of_nobody, NOBODY)):
        assert as_root(*ALLOW, home=home.directory).returncode == 0
        assert owners(home.directory) == {owner}


def test_a_run_stops_changing_things_when_another_directory_is_in_its_place(tmp_path: Path) -> None:
    home = make_home(tmp_path / "kms")
    with home.only_daemon():
        with home.lock():
            pass
        home.directory.rename(tmp_path / "moved")
        make_home(home.directory)
        with pytest.raises(StorageFailed, match="another directory"), home.lock():
            pass
        assert not (home.directory / "lock").exists()


@pytest.mark.parametrize("put", [lambda path: path.symlink_to(path.with_name("moved")), Path.touch, lambda path: None])
def test_so_it_says_of_a_link_a_file_or_nothing_in_its_place(tmp_path: Path, put: Callable[[Path], None]) -> None:
    """It was told that it is not enrolled, which it is."""
    home = make_home(tmp_path / "kms")
    with home.only_daemon():
        home.directory.rename(tmp_path / "moved")
        put(home.directory)
        with pytest.raises(StorageFailed) as caught, home.lock():
            pass
        assert caught.value.code == "directory_replaced"


def test_a_command_that_is_suggested_can_be_pasted(tmp_path: Path) -> None:
    home = make_home(tmp_path / "o'clock; touch x")
    home.config.chmod(0o644)
    with pytest.raises(StorageFailed) as caught:
        home.read_config()
    assert caught.value.code == "file_open_to_others"
    assert shlex.split(caught.value.sentence.partition("run: ")[2]) == ["chmod", "600", str(home.config)]


# -- where root cannot be the owner -------------------------------------------------------------------------------------


@only_root
@pytest.mark.parametrize("words", [ALLOW, ("run",), ("check",), ("status",), ("sync",), ("get", "a", "b")])
def test_an_owner_who_cannot_go_there_is_one_clear_line(passable: Path, words: tuple[str, ...]) -> None:
    home = make_home(passable / "closed" / "kms")
    hand_over(home.directory)
    (passable / "closed").chmod(0o700)
    done = as_root(*words, home=home.directory)
    assert (done.returncode, done.stderr.count("\n")) == (77, 1)
    assert f"{home.directory} cannot be used: Permission denied" in done.stderr
