"""The directory of a container: made, or taken when it is nobody else's; never a place that serves other things."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

import pytest

from kmsruntime.disk import files, rights
from kmsruntime.disk.home import Config, Home, read_document, write_document
from kmsruntime.disk.place import settled
from kmsruntime.errors import StorageFailed
from tests.kmsruntime.disk.roots import as_root, only_root


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(directory: Path, code: str) -> None:
    before = mode(directory), sorted(directory.rglob("*"))
    with pytest.raises(StorageFailed) as caught:
        Home(directory).prepare()
    assert caught.value.code == code
    assert "--dir" in caught.value.sentence
    assert (mode(directory), sorted(directory.rglob("*"))) == before


def test_a_new_or_empty_directory_is_closed_to_others(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o755)
    for directory in (empty, tmp_path / "a" / "new"):
        Home(directory).prepare()
        assert mode(directory) == 0o700


@pytest.mark.parametrize("name", [".notes.new", "config.json", "store"])
def test_a_directory_with_other_files_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "project"
    directory.mkdir(mode=0o755)
    (directory / name).write_text('{"format": 1}')
    refused(directory, "directory_in_use")


def test_a_containers_own_directory_is_taken_again(tmp_path: Path) -> None:
    home = Home(tmp_path / "container")
    home.prepare()
    (home.directory / ".config.json.77.new").touch()  # a first run that was killed
    (home.directory / "lock").touch()
    home.prepare()
    home.write_config(Config("https://portal.example.org", "https://vault.example.org"))
    home.store.touch()
    home.prepare()


def test_a_home_or_temporary_directory_is_refused_however_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home, temporary = tmp_path / "me", tmp_path / "tmp"
    at_home.mkdir(mode=0o755)
    temporary.mkdir()
    temporary.chmod(0o1777)
    monkeypatch.setenv("HOME", str(at_home))
    (tmp_path / "link").symlink_to(at_home)
    for directory in (at_home, temporary, tmp_path / "link"):
        refused(directory, "directory_shared")
    Home(settled(Path("~/.kms-runtime"))).prepare()


def test_a_home_is_known_whosever_it_is_and_whatever_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was closed to others when HOME named another, as it does for a service and for root in somebody's directory."""
    listed, own = tmp_path / "listed", tmp_path / "own"
    entry = pwd.getpwuid(0)
    for home in (listed, own):
        home.mkdir(mode=0o755)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setattr(pwd, "getpwall", lambda: [pwd.struct_passwd((*entry[:5], str(listed), entry[6]))])
    monkeypatch.setattr(pwd, "getpwuid", lambda user: pwd.struct_passwd((*entry[:5], str(own), entry[6])))
    for home in (listed, own):
        refused(home, "directory_shared")


def test_a_home_that_is_not_there_yet_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made, closed to others, and then refused; whoever makes its owner found it taken."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    with pytest.raises(StorageFailed) as caught:
        Home(tmp_path / "me").prepare()
    assert caught.value.code == "directory_shared"
    assert not (tmp_path / "me").exists()


def test_a_user_without_a_home_makes_no_other_directory_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty path in the list of users was the directory one stood in."""
    entry = pwd.getpwuid(0)
    monkeypatch.setattr(pwd, "getpwall", lambda: [pwd.struct_passwd((*entry[:5], "", entry[6]))])
    monkeypatch.chdir(tmp_path)
    Home(tmp_path).prepare()


@only_root
def test_a_home_is_known_by_whatever_name_it_is_mounted(passable: Path) -> None:
    at_home, elsewhere = passable / "me", passable / "elsewhere"
    for one in (at_home, elsewhere):
        one.mkdir(mode=0o755)
    script = 'mount --bind "$1" "$2" || exit 99; shift 2; exec "$@"'
    mounting = ("unshare", "--mount", "sh", "-c", script, "sh", str(at_home), str(elsewhere))
    addresses = ("--portal", "https://localhost:1", "--vault", "https://localhost:1")
    done = as_root("enrol", *addresses, home=elsewhere, text="kms-token", before=mounting, HOME=str(at_home))
    if done.returncode in (1, 99):
        pytest.skip("nothing may be mounted here")
    assert (done.returncode, "[directory_shared]" in done.stderr) == (77, True), done.stderr
    assert mode(at_home) == 0o755


def test_a_volume_that_nobody_has_used_yet_is_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir(mode=0o700)
    Home(tmp_path).prepare()


def test_directories_that_are_made_outlive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files in them were synced; what they lie in was not."""
    synced, fsync = set[str](), os.fsync

    def recorded(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    Home(tmp_path / "one" / "two" / "own").prepare()
    assert synced == {str(tmp_path), str(tmp_path / "one"), str(tmp_path / "one" / "two")}


@pytest.mark.parametrize("umask", [0, 0o022, 0o277, 0o777])
def test_a_new_directory_is_private_and_those_above_are_nobody_elses_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    """With umask 0 those above were open to everybody, who could put another directory in its place."""
    before = os.umask(umask)
    try:
        files.make_private_directory(tmp_path / "one" / "two" / "own")
    finally:
        os.umask(before)
    found = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("one", "one/two", "one/two/own")]
    assert found == [0o755, 0o755, 0o700]


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer of a portal grew to more than is ever read while it was kept; a person had to remove the file."""
    path = tmp_path / "kms-settings.json"
    write_document(path, {"one": 1})
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    monkeypatch.setattr("kmsruntime.disk.home.MOST_BYTES", 1000)
    for kept in (deep, "x" * 1000):
        with pytest.raises(StorageFailed, match="too large or nested too deep"):
            write_document(path, {"one": kept})
    assert read_document(path) == {"format": 1, "one": 1}


def test_a_group_that_is_told_of_and_not_listed_is_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of people need not list them all: whose group has a stranger in it passed for alone."""
    told = grp.struct_group(("devs", "x", 54_000, ["somebody", "else"]))
    listed, asked = grp.getgrall(), grp.getgrgid
    monkeypatch.setattr(grp, "getgrall", lambda: listed)
    monkeypatch.setattr(grp, "getgrgid", lambda number: told if number == 54_000 else asked(number))
    assert not rights.is_alone(54_000, 54_000)
    assert rights._groups_of(54_000) == (rights.NOBODYS_GROUP, [])
