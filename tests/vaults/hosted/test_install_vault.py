"""`manage.py install_vault` against a Vault that somebody else runs: what it writes, and that it shows no secret."""

from __future__ import annotations

import io
import stat
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.keyring import PROCESSES
from kmscore.vaultclient.client import Vault
from tests.servers import OpenBao, free_port, start_openbao
from vaults.hosted import credentials
from vaults.hosted.credentials import (
    HELD,
    Credential,
    log_in,
    read_credentials,
    renew_credentials,
    revoke_credential,
    still_good,
    write_credentials,
)
from vaults.hosted.hvac_client import BoundedAdapter, client_of

SAFE: dict[str, Path] = {}  # where the root key of a portal is, by its vault's address


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    running = start_openbao()
    SAFE[running.address] = tmp_path_factory.mktemp("safe") / "portal-root-key"
    yield running
    running.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


def run(server: OpenBao, directory: Path, *more: str) -> str:
    """What the command prints. Each directory is another machine of one portal, whose root key the operator brings."""
    out = io.StringIO()
    common = ("--address", server.address, "--credentials", str(directory), "--root-key", str(SAFE[server.address]))
    call_command("install_vault", *common, "--token", server.root_token, *more, stdout=out, stderr=out)
    return out.getvalue()


def logins(directory: Path) -> dict[str, Credential]:
    """By identity; one that stands in two files by the first of them."""
    found: dict[str, Credential] = {}
    for name in HELD:
        found = {**read_credentials(directory / name).identities, **found}
    return found


def test_writes_one_private_directory_per_process(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    client = client_of(Vault(server.address))
    assert sorted(path.name for path in directory.iterdir()) == sorted([*HELD, "portal-root"])
    for name, identities in HELD.items():
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o700
        signs = ["signing-keys"] if name in PROCESSES else []
        files = list((directory / name).iterdir())
        assert sorted(path.name for path in files) == ["identities.json", "portal-keys", *signs]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert tuple(read_credentials(directory / name).identities) == identities
    assert all(still_good(client, credential) for credential in logins(directory).values())


def test_prints_nothing_secret(server: OpenBao, directory: Path) -> None:
    shown = run(server, directory) + run(server, directory, "--rotate-credentials")
    assert server.root_token not in shown
    for credential in logins(directory).values():
        assert credential.secret_id not in shown
        assert credential.role_id not in shown


def test_a_second_run_keeps_the_credentials(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert run(server, directory).count("is kept") == len(HELD)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_what_is_missing_or_used_up_is_written_again(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    before = logins(directory)
    (directory / "shredder" / "identities.json").unlink()
    revoke_credential(client_of(Vault(server.address, token=server.root_token)), "issuer", before["issuer"])
    run(server, directory)
    after = logins(directory)
    assert {name for name in before if before[name] != after[name]} == {"web", "issuer", "shredder"}


def test_rotation_destroys_the_old_ones(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    old = logins(directory)
    run(server, directory, "--rotate-credentials")
    client = client_of(Vault(server.address))
    new = logins(directory)
    assert not any(still_good(client, credential) for credential in old.values())
    assert all(still_good(client, credential) for credential in new.values())
    for identity, credential in old.items():  # neither half of what somebody saw is of use, whatever he has beside it
        assert not still_good(client, replace(new[identity], role_id=credential.role_id))
        assert not still_good(client, replace(new[identity], secret_id=credential.secret_id))
    both = [read_credentials(directory / name).identities["rotator"] for name in ("worker", "shredder")]
    assert all(still_good(client, credential) for credential in both)


def test_the_files_of_another_machine_stay_good_until_the_role_ids_are_renewed(server: OpenBao, tmp_path: Path) -> None:
    one, two, client = tmp_path / "one", tmp_path / "two", client_of(Vault(server.address))
    run(server, one)
    run(server, two)
    seen = logins(one)
    assert all(still_good(client, credential) for credential in seen.values())
    run(server, two, "--rotate-credentials")
    assert not any(still_good(client, credential) for credential in seen.values())
    run(server, one)
    assert all(still_good(client, credential) for credential in [*logins(one).values(), *logins(two).values()])
    for identity, credential in seen.items():  # the other machine's secret_ids are destroyed as well
        assert not still_good(client, replace(logins(one)[identity], secret_id=credential.secret_id))


class Died(BaseException):
    """As if the power were cut."""


def test_whatever_breaks_off_a_renewal_every_file_logs_in(
    server: OpenBao, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before each request to the vault and before each file it writes; then it is run again."""
    run(server, directory)
    client, left = client_of(Vault(server.address)), 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def perhaps(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Died
            return function(*args, **kwargs)

        return perhaps

    root = client_of(Vault(server.address, token=server.root_token))
    directories = [directory / name for name in HELD]
    for steps in range(1000):
        with monkeypatch.context() as patched:
            left = steps
            patched.setattr(BoundedAdapter, "request", dying(BoundedAdapter.request))
            patched.setattr(credentials, "write_durably", dying(credentials.write_durably))
            try:
                renew_credentials(root, directories)
            except Died:
                pass
            else:
                break
        for one in directories:
            assert all(log_in(client, found, use_token=False) for found in read_credentials(one).identities.values())
    assert steps > 4 * len(logins(directory))
    assert run(server, directory).count("is kept") == len(HELD)


def test_what_broke_off_is_ended_by_the_next_run(server: OpenBao, directory: Path) -> None:
    run(server, directory)
    found = read_credentials(directory / "web")
    half = {name: replace(one, next_role_id=str(uuid.uuid4())) for name, one in found.identities.items()}
    write_credentials(directory / "web", replace(found, identities=half))
    assert run(server, directory).count("is written") == 1
    assert not any(one.next_role_id for one in logins(directory).values())


def test_token_from_a_file_and_from_standard_input(
    server: OpenBao, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root_key = ("--root-key", str(SAFE[server.address]))
    common = ("install_vault", "--address", server.address, "--credentials", str(directory), *root_key)
    (tmp_path / "token").write_text(server.root_token + "\n")
    call_command(*common, "--token-file", str(tmp_path / "token"), stdout=io.StringIO())
    for arguments in (["--token", "-"], []):
        monkeypatch.setattr("sys.stdin", io.StringIO(server.root_token + "\n"))
        call_command(*common, *arguments, stdout=io.StringIO())


class TestRefusals:
    """Each is one line that says what is wrong."""

    def refused(self, address: str, directory: Path, *more: str) -> str:
        with pytest.raises(CommandError) as caught:
            call_command("install_vault", "--address", address, "--credentials", str(directory), *more)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_wrong_token(self, server: OpenBao, directory: Path) -> None:
        assert "does not accept this token" in self.refused(server.address, directory, "--token", "s.wrong")

    @pytest.mark.parametrize("token", ["", "  ", "with\nbreak", "é"])
    def test_no_token(self, server: OpenBao, directory: Path, token: str) -> None:
        assert "No usable token" in self.refused(server.address, directory, "--token", token)

    def test_weak_token(self, server: OpenBao, directory: Path) -> None:
        root = Vault(server.address, token=server.root_token)
        weak = root.call("POST", "auth/token/create", {"policies": ["default"]})["auth"]["client_token"]
        assert "does not allow it" in self.refused(server.address, directory, "--token", weak)

    def test_nobody_there(self, directory: Path) -> None:
        assert "cannot be reached" in self.refused(f"http://127.0.0.1:{free_port()}", directory, "--token", "x")

    def test_no_address(self, directory: Path) -> None:
        assert "must start with https://" in self.refused("vault.example.org", directory, "--token", "x")

    def test_missing_ca(self, server: OpenBao, directory: Path) -> None:
        assert "ca.pem does not exist" in self.refused(server.address, directory, "--token", "x", "--ca", "ca.pem")

    def test_missing_token_file(self, server: OpenBao, directory: Path) -> None:
        assert "cannot be read" in self.refused(server.address, directory, "--token-file", "/nonexistent")

    def test_directory_that_is_a_file(self, server: OpenBao, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be made" in self.refused(server.address, tmp_path / "file", "--token", server.root_token)

    def test_older_layout(self, directory: Path) -> None:
        old = start_openbao()
        try:
            root = Vault(old.address, token=old.root_token)
            root.call("POST", "sys/mounts/intransit", {"type": "transit", "description": "KMS Portal, layout 0: x"})
            assert "layout 0" in self.refused(old.address, directory, "--token", old.root_token)
        finally:
            old.stop()
        assert list(directory.iterdir()) == []
