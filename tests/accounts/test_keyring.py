"""Keyrings: each process signs as itself, everybody believes by the newest list, and nobody by what others wrote."""

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from accounts import signing
from accounts.keyring import (
    KEYS_FILE,
    LIST_FILE,
    Keyring,
    KeyringBroken,
    NoSigningKey,
    is_public_half,
    new_key,
    public_half,
    read_keyring,
    read_signing_keys,
    write_signing_keys,
)
from kmscore.sealed.key_list import KeyList, ListedKey, State, sign_key_list
from tests.kmscore.test_durable import NOBODY, root_only

ROOT, WEB, OTHER, WORKER = (Ed25519PrivateKey.from_private_bytes(bytes([at] * 32)) for at in range(4))


def listed(serial: int = 1, *, web: State = "signing", other: State = "verifying") -> KeyList:
    states: list[tuple[str, Ed25519PrivateKey, State]] = [
        ("web", WEB, web),
        ("web", OTHER, other),
        ("worker", WORKER, "signing"),
    ]
    return KeyList(
        serial, 0, int(time.time()), tuple(ListedKey(name, public_half(key), at) for name, key, at in states)
    )


def directory_of(tmp_path: Path, keys: KeyList, *private: tuple[str, Ed25519PrivateKey]) -> Path:
    (tmp_path / LIST_FILE).write_text(sign_key_list(ROOT, keys))
    write_signing_keys(tmp_path / KEYS_FILE, private)
    return tmp_path


def test_a_signature_tells_whose_it_is() -> None:
    web, worker = Keyring(listed(), [("web", WEB)]), Keyring(listed(), [("worker", WORKER)])
    assert worker.signer_of(b"said", web.sign("web", b"said")) == "web"
    assert web.signer_of(b"said", worker.sign("worker", b"said")) == "worker"


def test_a_signature_is_over_this_very_message() -> None:
    web = Keyring(listed(), [("web", WEB)])
    signature = web.sign("web", b"said")
    assert web.signer_of(b"said", signature) == "web"
    assert web.signer_of(b"Said", signature) is None
    for at in range(len(signature)):
        assert web.signer_of(b"said", signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]) is None
        assert web.signer_of(b"said", signature[:at]) is None
    assert web.signer_of(b"said", signature + b"x") is None


def test_nobody_signs_as_another_process() -> None:
    web = Keyring(listed(), [("web", WEB)])
    with pytest.raises(NoSigningKey, match="Only worker signs this"):
        web.sign("worker", b"said")


def test_a_key_filed_under_another_process_signs_nothing() -> None:
    keyring = Keyring(listed(), [("worker", WEB)])
    assert keyring.processes == ()


def test_a_key_that_is_not_listed_signs_and_verifies_nothing() -> None:
    stranger = Ed25519PrivateKey.generate()
    keyring = Keyring(listed(), [("web", stranger)])
    assert keyring.processes == ()
    forged = Keyring(KeyList(1, 0, 0, (ListedKey("web", public_half(stranger), "signing"),)), [("web", stranger)])
    assert keyring.signer_of(b"said", forged.sign("web", b"said")) is None


def test_a_listed_key_verifies_before_it_signs_and_after() -> None:
    old, new = Keyring(listed(), [("web", WEB), ("web", OTHER)]), listed(2, web="verifying", other="signing")
    said = old.sign("web", b"said")
    later = Keyring(new, [("web", WEB), ("web", OTHER)])
    assert later.signer_of(b"said", said) == "web"
    assert old.signer_of(b"more", later.sign("web", b"more")) == "web"
    assert later.is_current("web", later.sign("web", b"more"))
    assert not later.is_current("web", said)


def test_an_ended_key_verifies_what_nobody_may_change_and_nothing_else() -> None:
    said = Keyring(listed(), [("web", WEB)]).sign("web", b"said")
    ended = Keyring(listed(3, web="dead", other="signing"), [])
    for _ in range(2):
        assert ended.signer_of(b"said", said, for_good=True) == "web"
        assert ended.signer_of(b"said", said) is None, "also after it was asked for good"


def test_of_several_directories_the_first_says_who_this_is(tmp_path: Path) -> None:
    for name, key in (("web", WEB), ("worker", WORKER)):
        (tmp_path / name).mkdir()
        directory_of(tmp_path / name, listed(), (name, key))
    keyring = read_keyring([tmp_path / "web", tmp_path / "worker"], public_half(ROOT))
    assert keyring.processes == ("web", "worker")


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "not a key list"), ("AAAA", "not a key list"), (None, "cannot be read")],
)
def test_a_list_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / LIST_FILE).write_text(content)
    with pytest.raises(KeyringBroken, match=f"{LIST_FILE} .*{says}"):
        read_keyring([tmp_path], public_half(ROOT))


@pytest.mark.parametrize("line", ["web", "web !!!!", "web AAAA", "web  AAAA"])
def test_a_file_of_keys_that_is_none_is_named_without_its_content(tmp_path: Path, line: str) -> None:
    path = tmp_path / KEYS_FILE
    path.touch(mode=0o600)
    path.write_text(line)
    with pytest.raises(KeyringBroken) as broken:
        read_signing_keys(path)
    assert str(broken.value) == f"{path} is not a file of signing keys."


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / KEYS_FILE
    write_signing_keys(path, [("web", new_key())])
    path.chmod(0o640)
    with pytest.raises(KeyringBroken, match="can be read by others; make it mode 0600 and change its keys"):
        read_signing_keys(path)


@root_only
def test_a_link_to_anothers_keys_is_not_followed(tmp_path: Path) -> None:
    """Else root, renewing web's directory, would write the worker's keys into it."""
    import os

    for name in ("web", "worker"):
        (tmp_path / name).mkdir(mode=0o700)
    os.chown(tmp_path / "web", NOBODY, NOBODY)
    write_signing_keys(tmp_path / "worker" / KEYS_FILE, [("worker", WORKER)])
    link = tmp_path / "web" / KEYS_FILE
    link.symlink_to(tmp_path / "worker" / KEYS_FILE)
    with pytest.raises(KeyringBroken, match="cannot be read"):
        read_signing_keys(link)
    link.unlink()
    os.chown(tmp_path / "worker" / KEYS_FILE, NOBODY - 2, NOBODY)
    link.hardlink_to(tmp_path / "worker" / KEYS_FILE)
    with pytest.raises(KeyringBroken, match="belongs to another user"):
        read_signing_keys(link)
    link.unlink()
    os.mkfifo(link, 0o600)
    with pytest.raises(KeyringBroken, match="is not a file"):
        read_signing_keys(link)


# -- in a process that runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path: Path, settings: Any) -> Any:
    settings.CREDENTIALS, settings.PORTAL_ROOT = str(tmp_path), public_half(ROOT).hex()
    directory_of(tmp_path, listed(2), ("web", WEB), ("web", OTHER))
    signing.use_directories([tmp_path])
    yield tmp_path
    signing.use_directories([])


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "LOOK_SECONDS", 0.0)


def test_a_changed_list_takes_effect_without_a_restart(held: Path) -> None:
    before = signing.sign("web", b"said")
    directory_of(held, listed(3, web="verifying", other="signing"), ("web", WEB), ("web", OTHER))
    assert signing.sign("web", b"said")[:8] != before[:8]
    assert signing.signer_of(b"said", before) == "web"
    directory_of(held, listed(4, web="dead", other="signing"), ("web", WEB), ("web", OTHER))
    assert signing.signer_of(b"said", before) is None


def test_an_older_list_is_not_taken(held: Path) -> None:
    directory_of(held, listed(3, web="dead", other="signing"), ("web", WEB), ("web", OTHER))
    said = signing.sign("web", b"said")
    directory_of(held, listed(2), ("web", WEB), ("web", OTHER))
    assert signing.sign("web", b"said")[:8] == said[:8]


@pytest.mark.parametrize("content", ["", "junk"])
def test_a_list_that_breaks_while_it_is_in_use_stops_nothing(held: Path, content: str) -> None:
    said = signing.sign("web", b"said")
    (held / LIST_FILE).write_text(content)
    assert signing.signer_of(b"said", said) == "web"


def test_production_takes_no_key_of_development(settings: Any, tmp_path: Path) -> None:
    settings.MODE, settings.CREDENTIALS = "production", ""
    signing.use_directories([])
    with pytest.raises(KeyringBroken, match="Set KMS_CREDENTIALS"):
        signing.keyring()
    settings.CREDENTIALS = str(tmp_path)
    with pytest.raises(KeyringBroken, match="cannot be read"):
        signing.keyring()
    settings.MODE = "development"
    signing.use_directories([])


def test_a_new_key_is_a_public_half() -> None:
    assert all(is_public_half(public_half(new_key())) for _ in range(50))
