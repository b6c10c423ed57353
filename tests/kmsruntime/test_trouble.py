"""What goes wrong is one line with a stable code, has its exit code, loses nothing, and get and exec go on from the store."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from extensions.models import EnvironmentManifest, ExtensionValue
from kmscore.vaultclient.client import Vault
from kmsruntime.disk.home import read_document, write_document
from kmsruntime.errors import EXIT_CODES
from tests.conftest import HostedVault
from tests.kmsruntime.container import Container, save
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.live import ROOT
from tests.servers import free_port, start_openbao
from vaults.models import ContainerReport

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def holding(enrolled: Container) -> Container:
    """A container with one value, and another one waiting at the portal."""
    save(enrolled.stage, password="held-canary")
    enrolled.sync()
    save(enrolled.stage, apiKey="waiting")
    return enrolled


def expect(container: Container, *words: str, exit_code: str, code: str) -> str:
    """The command fails as documented; what is held stays and can be used."""
    before = container.home.store.read_bytes() if container.home.store.exists() else b""
    done = container.command(*words)
    assert done.returncode == EXIT_CODES[exit_code], done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"[{code}]"), done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr
    if before:
        assert container.home.store.read_bytes() == before
        assert len(list(container.directory.glob("at-rest-key.*"))) == 1
        assert container.command("get", "Orders database", "password").stdout == "held-canary"
    return last


def portal_at(container: Container, address: str) -> None:
    container.home.write_config(replace(container.home.read_config(), portal=address))


def vault_at(container: Container, address: str) -> None:
    container.home.write_config(replace(container.home.read_config(), vault=address))


@pytest.mark.parametrize(
    ("how", "exit_code", "code"),
    [
        (Misbehaving.HTML, "portal_misconfigured", "not_a_portal"),
        (Misbehaving.HTML_FORBIDDEN, "portal_misconfigured", "not_a_portal"),
        (Misbehaving.NOT_JSON, "portal_misconfigured", "not_a_portal"),
        (Misbehaving.LIST, "portal_misconfigured", "not_a_portal"),
        (Misbehaving.HUGE, "portal_misconfigured", "not_a_portal"),
        (Misbehaving.REDIRECT, "portal_misconfigured", "portal_redirects"),
        (Misbehaving.HTML_ERROR, "portal_unavailable", "portal_failing"),
        (Misbehaving.SERVER_ERROR, "portal_unavailable", "portal_failing"),
        (Misbehaving.BUSY, "portal_unavailable", "portal_busy"),
        (Misbehaving.CUT_OFF, "portal_unavailable", "portal_unreachable"),
        (Misbehaving.EMPTY_OBJECT, "delivery_refused", "answer_invalid"),
    ],
)
def test_a_portal_that_is_none(holding: Container, how: Misbehaving, exit_code: str, code: str) -> None:
    with misbehaving(how) as server:
        portal_at(holding, server.address)
        expect(holding, "sync", exit_code=exit_code, code=code)
        assert server.followed == 0
    assert holding.status()["verdict"] == code


def test_a_portal_that_is_down(holding: Container) -> None:
    portal_at(holding, f"http://127.0.0.1:{free_port()}")
    expect(holding, "sync", exit_code="portal_unavailable", code="portal_unreachable")
    assert "PASSWORD=held-canary" in holding.command("exec", "--only", "Orders database", "--", "env").stdout


@pytest.mark.slow
def test_a_portal_that_is_silent(holding: Container) -> None:
    with misbehaving(Misbehaving.SILENT) as server:
        portal_at(holding, server.address)
        expect(holding, "sync", exit_code="portal_unavailable", code="portal_timeout")


@pytest.mark.parametrize(
    ("how", "exit_code", "code"),
    [
        (Misbehaving.HTML, "vault_misconfigured", "not_a_vault"),
        (Misbehaving.HTML_ERROR, "vault_misconfigured", "not_a_vault"),
        (Misbehaving.REDIRECT, "vault_misconfigured", "vault_redirects"),
        (Misbehaving.EMPTY_OBJECT, "vault_misconfigured", "answer_invalid"),
        (Misbehaving.SERVER_ERROR, "vault_unavailable", "vault_failing"),
        (Misbehaving.BUSY, "vault_unavailable", "vault_busy"),
        (Misbehaving.CUT_OFF, "vault_unavailable", "vault_unreachable"),
        (Misbehaving.SILENT, "vault_unavailable", "vault_timeout"),
    ],
)
def test_a_vault_that_is_none(holding: Container, how: Misbehaving, exit_code: str, code: str) -> None:
    with misbehaving(how) as server:
        vault_at(holding, server.address)
        expect(holding, "sync", exit_code=exit_code, code=code)
        assert server.followed == 0
    assert ContainerReport.objects.get().verdict == code  # the portal shows it


def test_a_sealed_vault(holding: Container) -> None:
    server = start_openbao()
    try:
        vault = Vault(server.address, token=server.root_token)
        vault.call("PUT", "sys/seal")
        deadline = time.monotonic() + 20
        while vault.status_of("GET", "sys/health")[0] != 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        vault_at(holding, server.address)
        line = expect(holding, "sync", exit_code="vault_unavailable", code="vault_sealed")
        assert "The vault is sealed." in line
    finally:
        server.stop()


def test_a_vault_that_is_down_and_back(holding: Container) -> None:
    config = holding.home.read_config()
    vault_at(holding, f"http://127.0.0.1:{free_port()}")
    expect(holding, "sync", exit_code="vault_unavailable", code="vault_unreachable")
    holding.home.write_config(config)
    assert holding.command("sync").returncode == 0
    assert holding.values()["Orders database/apiKey"] == "waiting"
    assert ContainerReport.objects.get().verdict == "ok"


# -- what the portal delivers -------------------------------------------------------------------------------------------


def test_a_value_swapped_in_the_database_is_refused_by_name(enrolled: Container) -> None:
    save(enrolled.stage, password="held-canary", apiKey="second")
    one, other = ExtensionValue.objects.filter(form="sealed")
    ExtensionValue.objects.filter(pk=one.pk).update(sealed=other.sealed)
    line = expect(enrolled, "sync", exit_code="delivery_refused", code="manifest_mismatch")
    assert "Orders database/" in line
    assert ContainerReport.objects.get().verdict == "manifest_mismatch"


def test_a_dropped_value_is_refused_by_name(holding: Container) -> None:
    ExtensionValue.objects.filter(field=holding.stage.field("apiKey")).delete()
    line = expect(holding, "sync", exit_code="delivery_refused", code="manifest_mismatch")
    assert "a value was dropped (Orders database/apiKey)" in line


def test_an_old_manifest_under_a_new_revision_is_refused(enrolled: Container) -> None:
    save(enrolled.stage, password="held-canary")
    old = EnvironmentManifest.objects.get()
    enrolled.sync()
    save(enrolled.stage, apiKey="second")
    EnvironmentManifest.objects.update(sealed=old.sealed, data_key=old.data_key)
    expect(enrolled, "sync", exit_code="delivery_refused", code="manifest_mismatch")


def test_an_environment_rolled_back_as_a_whole_is_refused(enrolled: Container) -> None:
    save(enrolled.stage, apiKey="first")
    values, manifests = list(ExtensionValue.objects.values()), list(EnvironmentManifest.objects.values())
    save(enrolled.stage, password="held-canary")
    enrolled.sync()
    ExtensionValue.objects.all().delete()
    EnvironmentManifest.objects.all().delete()
    ExtensionValue.objects.bulk_create([ExtensionValue(**row) for row in values])
    EnvironmentManifest.objects.bulk_create([EnvironmentManifest(**row) for row in manifests])
    type(enrolled.stage.production).objects.filter(pk=enrolled.stage.production.pk).update(extensions_revision=1)
    line = expect(enrolled, "sync", exit_code="revision_lower", code="revision_lower")
    assert "--accept-restore" in line
    assert enrolled.command("sync", "--accept-restore").returncode == 0
    assert enrolled.values()["Orders database/apiKey"] == "first"
    assert enrolled.values()["Orders database/password"] == "missing"


def lose_keys(vault: HostedVault, container: Container, *, wrapped: str | None) -> None:
    """Take every data key but the manifest's out of the vault's documents, or replace them."""
    environment = str(container.stage.production.pk)
    document = vault.root.read_document("datakeys", f"{environment}/0")
    kept = str(EnvironmentManifest.objects.get().data_key_id)
    changed = {key: text if key == kept else wrapped for key, text in document.items()}
    entries = {key: text for key, text in changed.items() if text}
    vault.root.call("POST", f"datakeys/data/{environment}/0", {"data": entries})


@pytest.mark.parametrize("wrapped", [None, "vault:v1:AAAA"], ids=["missing", "does not unwrap"])
def test_a_data_key_the_vault_has_lost_is_told_by_value(
    enrolled: Container, hosted_vault: HostedVault, wrapped: str | None
) -> None:
    save(enrolled.stage, password="lost")
    save(enrolled.stage, apiKey="has its key")
    lose_keys(hosted_vault, enrolled, wrapped=wrapped)
    line = expect(enrolled, "sync", exit_code="delivery_refused", code="data_key_missing")
    assert "no usable key for Orders database/password" in line
    save(enrolled.stage, password="entered again")
    assert enrolled.command("sync").returncode == 0
    assert enrolled.values()["Orders database/apiKey"] == "has its key"


# -- this machine -------------------------------------------------------------------------------------------------------


def test_a_damaged_store_is_named_and_healed_by_sync(holding: Container) -> None:
    content = bytearray(holding.home.store.read_bytes())
    content[-1] ^= 1
    holding.home.store.write_bytes(bytes(content))
    done = holding.command("get", "Orders database", "password")
    assert (done.returncode, "[store_damaged]" in done.stderr) == (76, True)
    assert holding.status()["verdict"] == "store_damaged"
    healed = holding.command("sync")
    assert (healed.returncode, "fetching everything anew" in healed.stderr) == (0, True)
    assert holding.values()["Orders database/password"] == "held-canary"


def test_a_damaged_store_still_knows_which_revisions_it_saw(enrolled: Container) -> None:
    save(enrolled.stage, password="held-canary")
    enrolled.sync()
    content = bytearray(enrolled.home.store.read_bytes())
    content[-1] ^= 1
    enrolled.home.store.write_bytes(bytes(content))
    type(enrolled.stage.production).objects.filter(pk=enrolled.stage.production.pk).update(extensions_revision=0)
    EnvironmentManifest.objects.all().delete()
    ExtensionValue.objects.all().delete()
    done = enrolled.command("sync")
    assert (done.returncode, "[revision_lower]" in done.stderr) == (66, True)


def test_a_lost_key_file_is_fetched_from_the_vault(holding: Container) -> None:
    """As after a restart, when the key was on a tmpfs."""
    for path in holding.directory.glob("at-rest-key.*"):
        path.unlink()
    assert holding.command("get", "Orders database", "password").stdout == "held-canary"
    assert len(list(holding.directory.glob("at-rest-key.*"))) == 1
    for path in holding.directory.glob("at-rest-key.*"):
        path.unlink()
    vault_at(holding, f"http://127.0.0.1:{free_port()}")
    done = holding.command("get", "Orders database", "password")
    assert (done.returncode, done.stderr.count("\n")) == (73, 1)
    assert re.search(r"at-rest-key\.\S+ is missing or damaged and the vault does not open it again", done.stderr)


@pytest.mark.parametrize("name", ["config", "atom", "environment", "handover"])
def test_a_damaged_file_is_named(holding: Container, name: str) -> None:
    path = holding.directory / f"{name}.json"
    path.write_bytes(b'{"format": 1, "tok')
    path.chmod(0o600)
    done = holding.command("sync")
    assert (done.returncode, "[file_damaged]" in done.stderr, path.name in done.stderr) == (76, True, True)


def test_a_damaged_state_file_does_not_matter(holding: Container) -> None:
    holding.home.state.write_bytes(b"x")
    assert holding.command("sync").returncode == 0


def test_credentials_others_can_read_are_refused(holding: Container) -> None:
    holding.home.atom.chmod(0o644)
    done = holding.command("sync")
    assert (done.returncode, "chmod 600" in done.stderr) == (77, True)


def test_a_full_disk_keeps_what_is_held(holding: Container) -> None:
    """The file-size limit is the nearest to a full disk that needs no privilege; the kernel says EFBIG for ENOSPC."""
    save(holding.stage, apiKey="x" * 40_000)
    before = holding.home.store.read_bytes()
    limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *holding.words("sync")]
    import subprocess

    done = subprocess.run(
        limited, capture_output=True, text=True, cwd=ROOT, env=holding.environment(), check=False, timeout=60
    )
    assert (done.returncode, "[disk_full]" in done.stderr) == (77, True), done.stderr
    assert holding.home.store.read_bytes() == before
    assert not list(holding.directory.glob(".*.new"))
    assert holding.command("sync").returncode == 0


def test_two_at_once_wait_for_each_other(holding: Container) -> None:
    with holding.home.lock():
        import subprocess

        process = subprocess.Popen(holding.words("sync"), cwd=ROOT, env=holding.environment(), stderr=subprocess.PIPE)
        time.sleep(0.8)
        assert process.poll() is None
    assert process.wait(20) == 0
    process.communicate()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--portal", "http://kms.example.com", "--vault", "https://v"), "address_not_https"),
        (("--portal", "https://p", "--vault", "http://10.0.0.1:8200"), "address_not_https"),
        (("--portal", "ftp://kms.example.com", "--vault", "https://v"), "address_invalid"),
        (("--portal", "https://u:p@kms.example.com", "--vault", "https://v"), "address_invalid"),
        (("--portal", "https://p/?x=1", "--vault", "https://v"), "address_invalid"),
        (("--portal", "https://p:x", "--vault", "https://v"), "address_invalid"),
        (("--portal", "https://p", "--vault", "https://v", "--vault-ca", "/nonexistent"), "ca_invalid"),
        (("--portal", "https://p", "--vault", "https://v", "--portal-ca", "/etc/passwd"), "ca_invalid"),
    ],
)
def test_addresses_are_checked_before_anything_is_sent(
    tmp_path: Path, words: tuple[str, ...], code: str, portal: object
) -> None:
    container = Container(portal, tmp_path / "none")  # type: ignore[arg-type]
    done = container.command("enrol", *words, input="token")
    assert (done.returncode, f"[{code}]" in done.stderr) == (2, True)
    assert not container.directory.exists()


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "runtime.md").read_text()
    table = {name: int(number) for number, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    assert table == EXIT_CODES


def test_files_of_another_format_are_refused(holding: Container) -> None:
    document = read_document(holding.home.config)
    assert document is not None
    write_document(holding.home.config, document | {"format": 2})
    assert holding.command("sync").returncode == 76


def test_what_nobody_foresaw_is_told_where_all_seemed_well(holding: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` and the page said "up to date, 1 s ago" while every sync ended in it."""
    synchroniser = holding.synchroniser()
    monkeypatch.setattr(synchroniser, "_rounds", lambda accept_restore: {}["nothing"])
    with pytest.raises(KeyError):
        synchroniser.sync()
    assert "Something unforeseen happened (KeyError" in json.dumps(holding.status())
