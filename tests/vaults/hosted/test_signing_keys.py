"""Signing keys by process: made, listed in the vault and in each directory, changed in three steps; at a real OpenBao."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import time_machine
from django.core.management import CommandError, call_command

from accounts.keyring import (
    KEYS_FILE,
    LIST_FILE,
    PROCESSES,
    new_key,
    read_keyring,
    read_signing_keys,
    write_signing_keys,
)
from kmscore.sealed.key_list import KeyList, read_key_list
from kmscore.vaultclient.client import Vault
from tests.servers import OpenBao, start_openbao
from vaults.hosted.credentials import HELD, read_credentials
from vaults.hosted.signing_keys import LISTED_BEFORE_USE


@pytest.fixture
def server() -> Iterator[OpenBao]:
    running = start_openbao()
    yield running
    running.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


def run(server: OpenBao, directory: Path, *more: str) -> str:
    out = io.StringIO()
    common = ("--address", server.address, "--credentials", str(directory), "--token", server.root_token)
    call_command("install_vault", *common, *more, stdout=out, stderr=out)
    return out.getvalue()


def refused(server: OpenBao, directory: Path, *more: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(server, directory, *more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def root_of(directory: Path) -> bytes:
    return bytes.fromhex((directory / "portal-root").read_text())


def listed(directory: Path, process: str = "web") -> KeyList:
    return read_key_list(root_of(directory), (directory / process / LIST_FILE).read_text())


def in_vault(server: OpenBao) -> str:
    vault = Vault(server.address, token=server.root_token)
    return str(vault.call("GET", "authority/data/portal")["data"]["data"]["keys"])


def test_each_process_has_a_key_that_no_other_has(server: OpenBao, directory: Path) -> None:
    shown = run(server, directory)
    assert [name for name, _ in read_signing_keys(directory / "portal-root-key")] == ["root"]
    assert f"KMS_PORTAL_ROOT={root_of(directory).hex()}" in shown
    for process in PROCESSES:
        assert read_keyring([directory / process], root_of(directory)).processes == (process,)
    halves = [key.public for key in listed(directory).keys]
    assert len(set(halves)) == len(PROCESSES)
    assert not (directory / "backup" / KEYS_FILE).exists()
    for name in HELD:
        assert (directory / name / LIST_FILE).read_text() == in_vault(server), "the same bytes everywhere"


def test_it_shows_no_private_half(server: OpenBao, directory: Path) -> None:
    shown = run(server, directory) + run(server, directory, "--new-key", "web")
    for file in (directory / "portal-root-key", directory / "web" / KEYS_FILE):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for line in file.read_text().splitlines():
            assert line.split(" ")[1] not in shown


def test_a_second_run_changes_nothing(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    (directory / "portal-root-key").rename(directory.parent / "safe")  # nothing needs it while nothing changes
    before.pop(directory / "portal-root-key")
    run(server, directory)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_everybody_reads_the_list_and_nobody_writes_it(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    vault = Vault(server.address)
    for name in HELD:
        for identity, one in read_credentials(directory / name).identities.items():
            token = vault.with_token(vault.login("platform", one.role_id, one.secret_id).token)
            assert token.status_of("GET", "authority/data/portal")[0] == 200, identity
            body = {"data": {"keys": "mine"}, "options": {"cas": 1}}
            assert token.status_of("POST", "authority/data/portal", body)[0] == 403, identity
            for path in ("authority/metadata/portal", "authority/data/other", "authority/metadata/?list=true"):
                assert token.status_of("GET", path)[0] in (403, 404), (identity, path)
            assert token.status_of("DELETE", "authority/data/portal")[0] == 403, identity


def test_a_key_changes_in_three_steps(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    root, web = root_of(directory), directory / "web"
    old = read_keyring([web], root).sign("web", b"old")
    run(server, directory, "--new-key", "web")
    assert [key.state for key in listed(directory).of("web", "signing", "verifying")] == ["signing", "verifying"]
    assert read_keyring([web], root).sign("web", b"old")[:8] == old[:8], "a new key is known before it is used"
    assert "every process has read it" in refused(server, directory, "--use-key", "web")
    with time_machine.travel(listed(directory).made_at + LISTED_BEFORE_USE + 1, tick=True):
        run(server, directory, "--use-key", "web")
    new = read_keyring([web], root).sign("web", b"new")
    assert new[:8] != old[:8]
    worker = read_keyring([directory / "worker"], root)
    assert (worker.signer_of(b"old", old), worker.signer_of(b"new", new)) == ("web", "web")
    run(server, directory, "--end-key", "web")
    worker = read_keyring([directory / "worker"], root)
    assert (worker.signer_of(b"old", old), worker.signer_of(b"new", new)) == (None, "web")
    assert worker.signer_of(b"old", old, for_good=True) == "web"
    assert listed(directory).serial == 4


def test_steps_out_of_order_are_refused_and_change_nothing(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    assert "begin with --new-key worker" in refused(server, directory, "--use-key", "worker")
    assert "No earlier key of worker" in refused(server, directory, "--end-key", "worker")
    run(server, directory, "--new-key", "worker")
    assert "under way" in refused(server, directory, "--new-key", "worker")
    assert "No earlier key of worker" in refused(server, directory, "--end-key", "worker"), "the one in use"
    assert listed(directory).serial == 2


def test_a_stolen_key_is_ended_at_once(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    stolen = read_keyring([directory / "worker"], root_of(directory)).sign("worker", b"said")
    run(server, directory, "--new-key", "worker")
    run(server, directory, "--use-key", "worker", "--at-once")
    run(server, directory, "--end-key", "worker")
    assert read_keyring([directory / "web"], root_of(directory)).signer_of(b"said", stolen) is None


def test_without_the_root_key_nothing_changes(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    (directory / "portal-root-key").unlink()
    before = in_vault(server)
    assert "name the root key's file in --root-key" in refused(server, directory, "--restored")
    assert in_vault(server) == before


def test_another_machine_gets_keys_of_its_own_with_the_root_key_only(
    server: OpenBao, directory: Path, tmp_path: Path
) -> None:
    run(server, directory)
    root_key = directory / "portal-root-key"
    assert "name the root key's file in --root-key" in refused(server, tmp_path / "second")
    run(server, tmp_path / "second", "--root-key", str(root_key))
    second = read_keyring([tmp_path / "second" / "web"], root_of(directory))
    said = second.sign("web", b"said")
    run(server, directory)  # takes over the newer list
    assert read_keyring([directory / "worker"], root_of(directory)).signer_of(b"said", said) == "web"


def test_anothers_root_key_is_refused(server: OpenBao, directory: Path, tmp_path: Path) -> None:
    other = start_openbao()
    try:
        run(other, tmp_path / "other")
    finally:
        other.stop()
    run(server, directory)
    foreign = str(tmp_path / "other" / "portal-root-key")
    assert "is not the root key of" in refused(server, directory, "--new-key", "web", "--root-key", foreign)


def test_an_older_snapshot_brings_back_no_older_list(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    older = in_vault(server)
    for step in (["--new-key", "web"], ["--use-key", "web", "--at-once"], ["--end-key", "web"]):
        run(server, directory, *step)
    root = Vault(server.address, token=server.root_token)
    root.call("POST", "authority/data/portal", {"data": {"keys": older}, "options": {"cas": 4}})
    run(server, directory, "--restored")
    newest = read_key_list(root_of(directory), in_vault(server))
    assert (newest.serial, newest.restores) == (5, 1)
    assert len(newest.of("web", "dead")) == 1


def test_an_installation_that_broke_off_goes_on(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    made = read_signing_keys(directory / "web" / KEYS_FILE)
    Vault(server.address, token=server.root_token).call("DELETE", "authority/metadata/portal")
    for name in HELD:
        (directory / name / LIST_FILE).unlink()
    run(server, directory, "--root-key", str(directory / "portal-root-key"))
    halves = [key.private_bytes_raw() for _, key in read_signing_keys(directory / "web" / KEYS_FILE)]
    assert halves == [key.private_bytes_raw() for _, key in made], "the key that was made is the one that is listed"
    assert read_keyring([directory / "web"], root_of(directory)).processes == ("web",)


def test_a_stolen_key_is_ended_though_another_is_in_its_file(server: OpenBao, directory: Path) -> None:
    """On commit b5f6031 whoever had web's directory put a key of his own there, and the stolen one could not be ended."""
    shown = run(server, directory)
    stolen = read_keyring([directory / "web"], root_of(directory)).sign("web", b"said")
    assert f"web {stolen[:8].hex()}: signing" in shown
    write_signing_keys(directory / "web" / KEYS_FILE, [("web", new_key())])
    assert f"web {stolen[:8].hex()}: signing" in run(server, directory), "it is shown beside the other"
    run(server, directory, "--end-id", stolen[:8].hex())
    assert read_keyring([directory / "worker"], root_of(directory)).signer_of(b"said", stolen) is None
    assert "No key 00" in refused(server, directory, "--end-id", "00")


@pytest.mark.parametrize("what", ["pipe", "link", "bytes", "rubbish"])
def test_whatever_a_process_put_in_place_of_its_list_is_named(server: OpenBao, directory: Path, what: str) -> None:
    run(server, directory)
    path = directory / "web" / LIST_FILE
    path.unlink()
    if what == "pipe":
        os.mkfifo(path, 0o600)
    elif what == "link":
        path.symlink_to(directory / "worker" / KEYS_FILE)
    else:
        path.write_bytes(b"\xff\xfe" if what == "bytes" else b"rubbish")
    said = refused(server, directory)
    assert str(path) in said or "A key list of this portal cannot be used" in said
