"""Where at-rest keys lie: where nobody leads this program elsewhere, and beside other containers' keys.

Each of these was an attack that succeeded, or a neighbour's loss.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from kmsruntime.disk.home import Home
from kmsruntime.errors import StorageFailed
from kmsruntime.store.keys import KeyFile, marked
from tests.kmsruntime.disk.roots import NOBODY, as_root, hand_over, only_root
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.kmsruntime.pieces import enrolled_by_hand
from tests.live import ROOT

KEY = bytes(32)
KEPT, GONE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def refused(keys: KeyFile, code: str, says: str) -> None:
    for use in (lambda: keys.keep_only(KEPT), lambda: keys.write(KEPT, KEY), lambda: keys.read(KEPT)):
        with pytest.raises(StorageFailed, match=says) as caught:
            use()
        assert caught.value.code == code


@only_root
@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o775, 0), (0o700, NOBODY), (0o755, NOBODY)])
def test_root_keeps_no_key_where_others_could_swap_the_directory(passable: Path, mode: int, owner: int) -> None:
    """A link in its place had root remove, and write, keys that are another container's."""
    neighbours, theirs = passable / "neighbours", passable / "it's theirs"
    neighbours.mkdir()
    (neighbours / f"key.{GONE}").touch()
    theirs.mkdir()
    hand_over(theirs, owner)
    (theirs / "keys").symlink_to(neighbours)
    hand_over(theirs, owner)
    theirs.chmod(mode)
    code = "directory_foreign" if owner else "directory_open_to_others"
    refused(KeyFile(theirs / "keys" / "key"), code, "run chown -h root '" if owner else "run chmod go-w '")
    assert [one.name for one in neighbours.iterdir()] == [f"key.{GONE}"]


@only_root
def test_the_way_is_judged_at_each_use(passable: Path) -> None:
    """A `run` goes on for months."""
    (passable / "keys").mkdir(mode=0o700)
    keys = KeyFile(passable / "keys" / "key")
    keys.write(KEPT, KEY)
    os.chown(passable / "keys", NOBODY, NOBODY)
    refused(keys, "directory_foreign", "key_file in config.json")


@only_root
def test_root_keeps_no_key_where_everybody_makes_entries_and_one_below_it(passable: Path) -> None:
    (passable / "temporary").mkdir()
    (passable / "temporary").chmod(0o1777)
    for missing in ("key", "new/key"):
        refused(KeyFile(passable / "temporary" / missing), "directory_shared", "mkdir -m 700")
    (passable / "temporary" / "own").mkdir(mode=0o700)
    keys = KeyFile(passable / "temporary" / "own" / "key")
    keys.write(KEPT, KEY)
    assert keys.read(KEPT) == KEY


@only_root
def test_enrol_refuses_such_a_directory_before_it_spends_the_token(passable: Path) -> None:
    (passable / "keys").mkdir()
    hand_over(passable / "keys")
    addresses = ("--portal", "https://localhost:1", "--vault", "https://localhost:1")
    words = ("enrol", *addresses, "--key-file", str(passable / "keys" / "key"))
    done = as_root(*words, home=passable / "kms", text="kms-token")
    assert (done.returncode, "belongs to nobody" in done.stderr) == (77, True), done.stderr
    assert not (passable / "kms").exists()


def test_two_containers_with_the_same_key_file_keep_their_keys(tmp_path: Path) -> None:
    """The one's sync removed the other's key."""
    one, other = (KeyFile(Path(marked(f"{tmp_path}/keys/key"))) for _ in range(2))
    for keys in (one, other):
        for key_id in (KEPT, GONE):
            keys.write(key_id, KEY)
    one.keep_only(KEPT)
    assert (one.read(KEPT), one.read(GONE)) == (KEY, None)
    assert (other.read(KEPT), other.read(GONE)) == (KEY, KEY)


def test_enrol_names_each_containers_key_file_differently(tmp_path: Path) -> None:
    addresses = ("--portal", "https://localhost:1", "--vault", "https://localhost:1")
    found = []
    for name in ("one", "other"):
        home = Home(tmp_path / name)
        words = ("enrol", "--dir", str(home.directory), *addresses, "--key-file", str(tmp_path / "key"))
        subprocess.run(
            [sys.executable, "-m", "kmsruntime", *words], input=b"kms-token", capture_output=True, cwd=ROOT, check=False
        )
        found.append(home.read_config().key_file)
    assert found[0] != found[1]
    assert all(re.fullmatch(re.escape(f"{tmp_path}/key.") + "[0-9a-f]{16}", one) for one in found)


def test_keys_whose_directory_is_gone_are_no_trouble(tmp_path: Path) -> None:
    """A tmpfs after a restart, whose directory nobody made again."""
    keys = KeyFile(tmp_path / "gone" / "key")
    assert keys.read(KEPT) is None
    keys.keep_only("")
    keys.write(KEPT, KEY)
    assert keys.read(KEPT) == KEY


def test_a_file_in_place_of_the_directory_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    """It was closed to others: chmod 700."""
    (tmp_path / "notes").touch(mode=0o644)
    with pytest.raises(StorageFailed):
        KeyFile(tmp_path / "notes" / "key").write(KEPT, KEY)
    assert (tmp_path / "notes").stat().st_mode & 0o777 == 0o644


def enrol(directory: Path, key_file: Path, portal: str = "https://localhost:1") -> tuple[int, str]:
    words = ("enrol", "--dir", str(directory), "--portal", portal, "--vault", "https://localhost:1")
    done = subprocess.run(
        [sys.executable, "-m", "kmsruntime", *words, "--key-file", str(key_file)],
        input="kms-token",
        text=True,
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("/", 2),
        ("/tmp/..", 2),
        ("{}/directory", 2),
        ("{}/directory/", 2),
        ("{}/link", 2),
        ("{}/notes/key", 77),
        ("{}/circle/key", 77),
        ("{}/dangling/../key", 77),
        *(("{}/" + "x" * length, 77) for length in (240, 300)),
        ("/proc/kms/key", 77),
        ("/proc/key", 77),
        ("/dev/null/key", 77),
    ],
)
def test_a_place_where_no_key_can_be_is_refused_before_the_portal_hears_the_token(
    tmp_path: Path, place: str, code: int
) -> None:
    """It was found out when the first values came: the token was spent, and the container held nothing."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "notes").touch()
    (tmp_path / "circle").symlink_to("circle")
    with misbehaving(Misbehaving.EMPTY_OBJECT) as portal:
        found, said = enrol(tmp_path / "kms", Path(place.format(tmp_path)), portal.address)
        assert (found, said.count("\n"), portal.tokens) == (code, 1, []), said
    assert "unforeseen" not in said
    assert not list(tmp_path.rglob("*key.*")), "nothing stays of the attempt"


@only_root
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_so_is_a_place_that_the_owner_of_the_directory_may_not_write_in(passable: Path, mode: int) -> None:
    (passable / "of_root").mkdir(mode=mode)
    (passable / "of_nobody").mkdir(mode=0o755)
    hand_over(passable / "of_nobody")
    with misbehaving(Misbehaving.EMPTY_OBJECT) as portal:
        addresses = ("--portal", portal.address, "--vault", "https://localhost:1")
        words = ("enrol", *addresses, "--key-file", str(passable / "of_root" / "key"))
        done = as_root(*words, home=passable / "of_nobody", text="kms-token")
        assert (done.returncode, "Permission denied" in done.stderr, portal.tokens) == (77, True, []), done.stderr


def test_a_missing_directory_of_keys_is_made_by_enrol(tmp_path: Path) -> None:
    found, said = enrol(tmp_path / "kms", tmp_path / "keys" / "key")
    assert (found, "[portal_unreachable]" in said) == (70, True), said
    assert not list((tmp_path / "keys").iterdir())


@pytest.mark.parametrize("path", ["/", "/tmp/..", "//"])
@pytest.mark.parametrize("command", ["status", "get A b", "exec -- true", "sync", "allow-vault --list"])
def test_a_key_file_in_the_configuration_that_is_none_is_said_by_name(tmp_path: Path, path: str, command: str) -> None:
    home = enrolled_by_hand(tmp_path / "kms")
    home.write_config(replace(home.read_config(), key_file=path))
    name, *rest = command.split()
    words = [sys.executable, "-m", "kmsruntime", name, "--dir", str(home.directory), *rest]
    done = subprocess.run(words, text=True, capture_output=True, cwd=ROOT, check=False)
    assert (done.returncode, "config.json is damaged" in done.stderr) == (76, True), done.stderr


def test_a_file_that_cannot_be_ours_is_no_key(tmp_path: Path) -> None:
    """In a tmpfs that all may write to, after a restart: whoever made a file of that name first stopped the container for good."""
    keys = KeyFile(tmp_path / "key")
    keys.of(KEPT).write_text("{}")
    keys.of(KEPT).chmod(0o644)
    assert keys.read(KEPT) is None
