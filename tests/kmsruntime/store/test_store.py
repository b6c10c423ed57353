"""The at-rest store: whole or not at all, and every changed byte is noticed."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from kmsruntime.disk import files
from kmsruntime.environment import label
from kmsruntime.errors import StorageFailed, StoreDamaged
from kmsruntime.store import file as store_module
from kmsruntime.store import format as store_format
from kmsruntime.store.format import Header
from kmsruntime.store.index import decode as decode_index
from tests.kmsruntime.pieces import ATOM, ENTRIES, ENVIRONMENT, ORDERS, at_rest_key, header, sealed, store_file
from tests.live import ROOT

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "store.json").read_text())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = store_file(tmp_path)
    written = file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    found = file.read()
    assert found is not None
    assert found.header == written
    assert found.open_all() == [b"pa55-canary \xc3\xbc", b"other-canary"]
    assert [found.open(held) for held in found.held if held.form == "sealed"] == found.open_all()
    assert [(label(held), held.form, held.plain) for held in found.held] == [
        ("Orders DB/password", "sealed", ""),
        ("Orders DB/user", "plain", "orders"),
        ("Orders DB/apiKey", "missing", ""),
        ("Billing/password", "sealed", ""),
        ("property/region", "plain", "eu"),
    ]


def test_a_store_from_before_calls_it_missing_too() -> None:
    columns = {"heads": [[["connection", ORDERS], "Orders DB"]], "head": [0], "last": ["apiKey"], "form": "c"}
    columns |= {"revision": [1], "digest": [""], "plain": [""], "size": [0]}
    index = decode_index(orjson.dumps(columns))
    assert ([held.form for held in index], index.missing) == (["missing"], 1)


def test_the_format_is_frozen() -> None:
    found = store_format.decode(bytes.fromhex(VECTOR["store"]), bytes.fromhex(VECTOR["key"]))
    assert [value.decode() for value in found.open_all()] == VECTOR["values"]
    assert [label(held) for held in found.held] == VECTOR["labels"]
    assert (found.header.revision, found.header.seen) == (7, {ENVIRONMENT: 7})


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """By the header, the index or the value it is in; nothing else is read from a damaged place."""
    key = at_rest_key()
    content = b"".join(store_format.encode(header(key_id="k"), key.plaintext, ENTRIES))
    assert len(store_format.decode(content, key.plaintext).open_all()) == 2
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        with pytest.raises(StoreDamaged):
            store_format.decode(bytes(damaged), key.plaintext).open_all()


def test_any_cut_is_noticed() -> None:
    key = at_rest_key()
    content = b"".join(store_format.encode(header(key_id="k"), key.plaintext, ENTRIES))
    for length in range(len(content)):
        with pytest.raises(StoreDamaged):
            store_format.decode(content[:length], key.plaintext).open_all()
    with pytest.raises(StoreDamaged):
        store_format.decode(content + b"x", key.plaintext)


def test_any_flipped_byte_of_an_empty_store_is_noticed() -> None:
    content = b"".join(store_format.encode(Header("a", "b", seen={"e": 4}), b"", ()))
    assert store_format.decode(content, b"").header.seen == {"e": 4}
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x80
        with pytest.raises(StoreDamaged):
            store_format.decode(bytes(damaged), b"")


def test_values_cannot_be_swapped_within_a_store() -> None:
    key = at_rest_key().plaintext
    same_size = [sealed("Orders", "one", "first"), sealed("Orders", "two", "other")]
    content = b"".join(store_format.encode(header(key_id="k"), key, same_size))
    size = 29 + len("first")
    swapped = content[: -2 * size] + content[-size:] + content[-2 * size : -size]
    with pytest.raises(StoreDamaged):
        store_format.decode(swapped, key).open_all()


def test_a_store_does_not_open_with_another_stores_key_or_header(tmp_path: Path) -> None:
    one, other = at_rest_key().plaintext, at_rest_key().plaintext
    with pytest.raises(StoreDamaged):
        store_format.decode(b"".join(store_format.encode(header(key_id="k"), one, ENTRIES)), other)


def test_the_new_key_is_there_before_the_store_and_the_old_one_goes_after(tmp_path: Path) -> None:
    file = store_file(tmp_path)
    first = file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    second = file.write(header(revision=4), ENTRIES, file.prepare(at_rest_key()))
    assert [path.name for path in tmp_path.glob("at-rest-key.*")] == [f"at-rest-key.{second.key_id}"]
    assert first.key_id != second.key_id


def test_a_crash_between_key_and_store_loses_nothing(tmp_path: Path) -> None:
    file = store_file(tmp_path)
    file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    file.prepare(at_rest_key())  # and no store that needs it
    found = file.read()
    assert found is not None
    assert len(found.open_all()) == 2
    file.write(header(revision=4), ENTRIES, file.prepare(at_rest_key()))
    assert len(list(tmp_path.glob("at-rest-key.*"))) == 1


def test_the_key_can_be_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "tmpfs" / "key"
    file = store_file(tmp_path / "container", str(elsewhere))
    file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    assert not list((tmp_path / "container").glob("*key*"))
    assert len(list(elsewhere.parent.iterdir())) == 1
    assert file.read() is not None


def test_a_missing_key_file_says_what_to_do(tmp_path: Path) -> None:
    file = store_file(tmp_path)
    written = file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    key = tmp_path / f"at-rest-key.{written.key_id}"
    key.unlink()
    with pytest.raises(StoreDamaged, match="is missing or damaged: run kms-runtime sync") as caught:
        file.read()
    assert caught.value.code == "key_missing"


def test_a_file_others_can_read_is_refused(tmp_path: Path) -> None:
    file = store_file(tmp_path)
    file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    file.path.chmod(0o644)
    with pytest.raises(StorageFailed, match="chmod 600"):
        file.read()


def test_an_emptied_store_has_no_key_and_remembers_revisions(tmp_path: Path) -> None:
    file = store_file(tmp_path)
    written = file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    file.write_empty(written)
    found = file.read()
    assert found is not None
    assert (found.header.key_id, len(found.index), found.header.seen) == ("", 0, {ENVIRONMENT: 3})
    assert not list(tmp_path.glob("at-rest-key.*"))


def test_a_store_of_another_version_is_told_apart() -> None:
    content = b"".join(store_format.encode(Header("a", ATOM), b"", ()))
    text = content[15:-36].replace(b'{"format":1', b'{"format":2')
    import hashlib

    newer = content[:15] + text + hashlib.sha256(text).digest() + content[-4:]
    with pytest.raises(StoreDamaged, match="another version"):
        store_format.decode(newer, b"")


FULL_DISK = """
import resource, sys
from pathlib import Path
from kmsruntime.errors import StorageFailed
from tests.kmsruntime.pieces import ENTRIES, at_rest_key, header, sealed, store_file
file = store_file(Path(sys.argv[1]))
file.write(header(), ENTRIES, file.prepare(at_rest_key()))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    file.write(header(revision=4), [*ENTRIES, sealed("Big", "one", "x" * 100_000)], file.prepare(at_rest_key()))
except StorageFailed as problem:
    print(problem.code, problem.sentence)
"""


def test_a_full_disk_leaves_the_store_in_use_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "disk_full No space left to write" in done.stdout, done.stderr
    found = store_file(tmp_path).read()
    assert found is not None
    assert (found.header.revision, len(found.open_all())) == (3, 2)
    assert not list(tmp_path.glob(".*.new"))


def test_a_read_only_directory_is_one_clear_line(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there"
    with pytest.raises(StorageFailed, match="cannot be used"):
        files.write_durably(missing / "file", [b"x"])


def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    theirs = Path("/usr")
    if os.geteuid() == 0:  # who owns /usr, and can give a directory away
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        nobody = pwd.getpwnam("nobody")
        os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    with pytest.raises(StorageFailed, match="another user"):
        files.make_private_directory(theirs)


def test_a_store_that_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grew beyond what is read of a file, and every later command failed."""
    file = store_file(tmp_path)
    written = file.write(header(), ENTRIES, file.prepare(at_rest_key()))
    monkeypatch.setattr(store_module, "MOST_BYTES", 2000)
    with pytest.raises(StorageFailed) as caught:
        file.write(
            header(revision=4), [sealed("Orders DB", "password", os.urandom(3000).hex())], file.prepare(at_rest_key())
        )
    assert caught.value.code == "store_too_large"
    found = file.read()
    assert found is not None
    assert found.header == written
