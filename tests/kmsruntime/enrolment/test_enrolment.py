"""Enrolment: every step survives a crash before and after it, nothing is made twice, and a stolen credential is noticed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import certifi
import pytest

from atoms import actions as atoms
from atoms.models import Atom, InstallerToken, Node
from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from kmsruntime.disk.home import Config
from kmsruntime.disk.journal import write_journal
from kmsruntime.enrolment.enrol import adopt, begin, enrol
from kmsruntime.enrolment.handover import Handover
from kmsruntime.errors import EnrolmentRefused, HostedVaultMisconfigured, Intrusion
from kmsruntime.remote.portal import Portal
from operations.work import sweep
from tests.by_hand import wrapped
from tests.conftest import HostedVault
from tests.kmscore.byov.situations import lying
from tests.kmsruntime.container import Container, save
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.live import LivePortal
from vaults.models import Enrolment, SecretId

pytestmark = pytest.mark.django_db(transaction=True)


def wait(seconds: float) -> bool:
    time.sleep(min(seconds, 0.2))
    return True


def config(container: Container) -> Config:
    return Config(container.portal.url, container.portal.vault_address)


def begun(container: Container, token: str) -> Handover:
    container.home.prepare()
    found = begin(container.home, config(container), token)
    assert isinstance(found, Handover)
    return found


def until_delivered(container: Container, token: str) -> Handover:
    """Advance until the wrapped credentials are on this machine, unopened."""
    handover = begun(container, token)
    while not handover.journal.grants:
        time.sleep(min(handover.advance(), 0.2))
        write_journal(container.home, handover.journal)
    return handover


def to_the_end(container: Container, handover: Handover) -> None:
    while not handover.done:
        time.sleep(min(handover.advance(), 0.2))
        write_journal(container.home, handover.journal)


def logs_in(container: Container) -> bool:
    vault = Vault(container.portal.vault_address)
    logins = (credentials.read_atom(container.home).login, credentials.read_environment(container.home).login)
    return all(login and vault.login(login.mount, login.role_id, login.secret_id).token for login in logins)


def molecule(container: Container) -> Atom:
    stage = container.stage
    made = atoms.create_atom(
        stage.account, name="Molecule", type="MOLECULE", environment=stage.production, actor=stage.alice
    )
    sweep()
    return made


def test_enrolling_spends_the_token_and_gives_working_credentials(enrolled: Container) -> None:
    node = Node.objects.get(state=Node.State.ENROLLED)
    assert InstallerToken.objects.get(node=node).spent_at is not None
    assert Enrolment.objects.get(node=node).state == Enrolment.State.CONFIRMED
    assert logs_in(enrolled)
    assert not enrolled.home.handover.exists()


def test_the_same_token_again_changes_nothing(container: Container) -> None:
    token = container.installer_token()
    assert container.enrol_with(token).returncode == 0
    before = container.home.atom.read_bytes()
    again = container.enrol_with(token)
    assert (again.returncode, container.home.atom.read_bytes()) == (0, before)
    assert Node.objects.count() == 1


def test_another_token_in_an_enrolled_directory_is_refused(enrolled: Container) -> None:
    done = enrolled.enrol_with("atom-00000000-0000-4000-8000-000000000000")
    assert (done.returncode, "[already_enrolled]" in done.stderr) == (68, True)
    assert "if this one was revoked, remove the directory or move it away first" in done.stderr


OWN_VAULT, VARIABLE = ("--allow-vault", "https://own.example"), ("--allow-env", "OWN_TOKEN")


def test_enrol_again_says_what_differs(container: Container, tmp_path: Path) -> None:
    """Another key file, address or vault was taken without a word, and not taken."""
    token = container.installer_token()
    assert container.enrol_with(token).returncode == 0
    before, elsewhere = container.home.config.read_bytes(), "https://localhost:1"
    for option, value in (
        ("--portal", elsewhere),
        ("--vault", elsewhere),
        ("--portal-ca", certifi.where()),
        ("--vault-ca", certifi.where()),
        ("--key-file", str(tmp_path / "keys" / "key")),
        OWN_VAULT,
        VARIABLE,
    ):
        done = container.enrol_with(token, option, value)
        assert (done.returncode, "[enrolled_otherwise]" in done.stderr) == (68, True), done.stderr
        assert f"{option} asked for something else than it has; nothing was changed: " in done.stderr
        assert ("kms-runtime allow-vault" if "allow" in option else "new installer token") in done.stderr
        assert value not in done.stderr
    assert container.home.config.read_bytes() == before
    assert not (tmp_path / "keys").exists()
    both = container.enrol_with(token, *OWN_VAULT, "--portal", elsewhere).stderr
    assert "--portal, --allow-vault asked for something else" in both


def test_enrol_again_with_what_there_is_changes_nothing(container: Container, tmp_path: Path) -> None:
    """However an address is written, and whatever was allowed since."""
    token, key_file = container.installer_token(), ("--key-file", str(tmp_path / "key"))
    assert container.enrol_with(token, *key_file, *OWN_VAULT).returncode == 0
    assert container.command("allow-vault", *VARIABLE).returncode == 0
    before = container.home.config.read_bytes()
    for options in ((), key_file, (*OWN_VAULT, *VARIABLE), ("--portal", f"{container.portal.url.upper()}/")):
        done = container.enrol_with(token, *options)
        assert done.returncode == 0, done.stderr
    assert container.home.config.read_bytes() == before


def test_what_was_allowed_outlives_an_enrolment_that_goes_on(container: Container, tmp_path: Path) -> None:
    """Its configuration was written anew, and the key file got another mark."""
    token, named = container.installer_token(), replace(config(container), key_file=str(tmp_path / "key"))
    container.home.prepare()
    begin(container.home, named, token)
    marked = container.home.read_config().key_file
    assert container.command("allow-vault", "https://since.example", *VARIABLE).returncode == 0
    begin(container.home, replace(config(container), allow_vaults=("https://own.example:443",)), token)
    begin(container.home, replace(named, portal="https://localhost:1"), container.installer_token())  # lost, and anew
    allowed = "https://since.example:443", "https://own.example:443"
    found = Config("https://localhost:1", named.vault, "", "", marked, allowed, ("OWN_TOKEN",))
    assert container.home.read_config() == found
    begin(container.home, replace(named, key_file=str(tmp_path / "other")), token)
    assert container.home.read_config().key_file.startswith(f"{tmp_path}/other.")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("written", [True, False], ids=["after the journal was written", "before it was written"])
def test_a_crash_after_any_step_is_gone_on_from(portal: LivePortal, container: Container, written: bool) -> None:
    """One machine per step: it dies right after that step, and a new run with the same token finishes."""
    atom = molecule(container)
    steps, machines = 0, 0
    while True:
        machine = Container(portal, container.directory / str(machines))
        token = machine.installer_token(atom)
        handover, number = begun(machine, token), 0
        while number <= steps and not handover.done:
            pause = handover.advance()
            if pause:
                time.sleep(0.2)  # waiting for the portal is no step of ours
                if handover.journal.enrolment and not handover.journal.grants and number != steps:
                    write_journal(machine.home, handover.journal)
                    number += number == 0  # asking counts once
                    continue
            if number < steps or written:
                write_journal(machine.home, handover.journal)
            number += 1
        finished = handover.done
        enrol(machine.home, config(machine), token, wait)
        assert logs_in(machine), f"after step {steps}"
        machines += 1
        assert Node.objects.filter(atom=atom).count() == machines, f"a second node after step {steps}"
        assert Node.objects.filter(atom=atom, state=Node.State.ENROLLED).count() == machines
        if finished:
            break
        steps += 1
    assert steps >= 12
    assert not Enrolment.objects.filter(state=Enrolment.State.INTRUDED).exists(), "a crash is no intrusion"


def test_a_crash_while_the_result_is_put_in_place(container: Container) -> None:
    token = container.installer_token()
    handover = begun(container, token)
    to_the_end(container, handover)
    journal = container.home.handover.read_bytes()
    adopt(container.home, handover.journal)
    done = container.home.atom.read_bytes(), container.home.environment.read_bytes()
    for path in (container.home.atom, None):
        container.home.handover.write_bytes(journal)
        container.home.handover.chmod(0o600)
        if path is not None:
            path.unlink()
        enrol(container.home, config(container), token, wait)
        assert (container.home.atom.read_bytes(), container.home.environment.read_bytes()) == done
        assert not container.home.handover.exists()


def test_another_token_ends_no_enrolment_that_is_finished_but_for_its_journal(container: Container) -> None:
    """Killed right there: a mistyped command put a new journal over the confirmed one, and the place was lost."""
    token = container.installer_token()
    handover = begun(container, token)
    to_the_end(container, handover)
    journal = container.home.handover.read_bytes()
    adopt(container.home, handover.journal)
    write_private(container.home.handover, journal)
    with pytest.raises(EnrolmentRefused) as caught:
        enrol(container.home, config(container), "atom-another", wait)
    assert caught.value.code == "already_enrolled"
    with pytest.raises(EnrolmentRefused) as caught:
        enrol(container.home, replace(config(container), portal="http://127.0.0.1:9"), token, wait)
    assert caught.value.code == "enrolled_otherwise"
    enrol(container.home, config(container), token, wait)
    assert not container.home.handover.exists()
    assert logs_in(container)


def write_private(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.mark.slow
def test_kill_9_of_the_real_program_at_any_time(container: Container) -> None:
    token = container.installer_token()
    words = container.words("enrol", "--portal", container.portal.url, "--vault", container.portal.vault_address)
    for milliseconds in range(250, 1900, 150):
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=container.environment())
        assert process.stdin is not None
        process.stdin.write(token.encode())
        process.stdin.close()
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = container.enrol_with(token)
    assert done.returncode == 0, done.stderr
    assert Node.objects.count() == 1
    assert logs_in(container)
    save(container.stage, password="after the kills")
    container.sync()
    assert container.values()["Orders database/password"] == "after the kills"


@pytest.mark.parametrize("half", ["role_id", "secret_id"])
@pytest.mark.parametrize("looked_up", [False, True])
def test_a_credential_somebody_else_opened_is_an_intrusion(container: Container, half: str, looked_up: bool) -> None:
    handover = until_delivered(container, container.installer_token())
    stolen = getattr(handover.journal.grants[0], half)
    vault = Vault(container.portal.vault_address)
    # The thief comes before the container looks at the token, or between its look and its use.
    while looked_up and not stolen.looked_up:
        handover.advance()
        write_journal(container.home, handover.journal)
    vault.unwrap_response(stolen.token)
    with pytest.raises(Intrusion, match="Somebody else opened"):
        to_the_end(container, handover)
    assert Enrolment.objects.get().state == Enrolment.State.INTRUDED


def test_an_intrusion_is_one_line_and_an_exit_code(container: Container) -> None:
    token = container.installer_token()
    handover = until_delivered(container, token)
    Vault(container.portal.vault_address).unwrap_response(handover.journal.grants[0].secret_id.token)
    done = container.enrol_with(token)
    assert (done.returncode, done.stderr.count("\n"), "[intrusion]" in done.stderr) == (69, 1, True)
    assert not container.home.handover.exists()
    assert container.enrol_with(token).returncode == 68  # void: a new token is needed
    assert container.enrol_with(container.installer_token()).returncode == 0


def test_a_refusal_after_the_tokens_life_is_no_intrusion(container: Container) -> None:
    token = container.installer_token()
    handover = until_delivered(container, token)
    half = handover.journal.grants[0].role_id
    Vault(container.portal.vault_address).unwrap_response(half.token)
    half.ends = 1  # by the vault's clock, long ago
    write_journal(container.home, handover.journal)
    enrol(container.home, config(container), token, wait)
    assert Enrolment.objects.get().state == Enrolment.State.CONFIRMED


def test_a_credential_made_for_something_else_is_never_opened(container: Container, hosted_vault: HostedVault) -> None:
    handover = until_delivered(container, container.installer_token())
    for path in (f"auth/atoms/role/{container.stage.second.pk}/role-id", "sys/mounts"):
        foreign = wrapped(hosted_vault.root, "GET", path, seconds=60)
        handover.journal.grants[0].role_id.token = foreign.token
        with pytest.raises(EnrolmentRefused, match="another kind or recipient"):
            handover.advance()
        assert hosted_vault.root.lookup_wrapping(foreign.token).creation_path == path  # still there: not used up


def test_an_account_of_another_code_is_not_this_containers(enrolled: Container) -> None:
    """The code names the key at the customer's vault: with another one a wrapped store was closed for good."""
    known = credentials.read_atom(enrolled.home)
    credentials.write_atom(enrolled.home, replace(known, account_code="before-AAAAAA"))
    with enrolled.home.lock(), pytest.raises(EnrolmentRefused) as caught:
        enrolled.synchroniser()._renewal.fetch("renewal")
    assert caught.value.code == "atom_changed"
    assert logs_in(enrolled), "the login in use was ended"
    credentials.write_atom(enrolled.home, known)
    enrolled.sync()


@pytest.mark.parametrize(("name", "value"), [("secret_id_ttl", False), ("secret_id_ttl", ""), ("role_id", "")])
def test_a_credential_of_another_type_is_none(container: Container, name: str, value: object) -> None:
    """A life that is no number passed for one without an end, so that nothing asked for another in time."""

    def lie(truth: bytes) -> bytes:
        found = json.loads(truth)
        found["data"] |= {name: value} if name in found["data"] else {}
        return json.dumps(found).encode()

    token = container.installer_token()
    journal = until_delivered(container, token).journal
    with lying(container.portal.vault_address, "sys/wrapping/unwrap", lie) as address:
        handover = Handover(Portal(container.portal.url), Vault(address), journal)
        with pytest.raises(HostedVaultMisconfigured) as caught:
            to_the_end(container, handover)
        assert caught.value.code == "answer_invalid"
    assert container.enrol_with(token).returncode == 0, "with a vault that tells the truth it goes on"


def test_everything_else_that_was_issued_is_destroyed(container: Container) -> None:
    token = container.installer_token()
    until_delivered(container, token)
    container.home.handover.unlink()  # the disk lost it all: the same token is in use by credentials we no longer have
    done = container.enrol_with(token)
    assert (done.returncode, "[installer_token_in_use]" in done.stderr) == (68, True)
    assert SecretId.objects.filter(confirmed_at=None).count() == 2


def test_a_wrong_expired_withdrawn_or_spent_token_is_named(container: Container, tmp_path: object) -> None:
    unknown = container.enrol_with("atom-00000000-0000-4000-8000-000000000000")
    assert (unknown.returncode, "[installer_token_unknown]" in unknown.stderr) == (68, True)
    token = container.installer_token()
    atoms.withdraw_installer_token(InstallerToken.objects.latest("created_at"), actor=container.stage.alice)
    assert "[installer_token_withdrawn]" in container.enrol_with(token).stderr
    token = container.installer_token()
    row = InstallerToken.objects.latest("created_at")
    row.expires_at = row.created_at
    row.save(update_fields=["expires_at"])
    assert "[installer_token_expired]" in container.enrol_with(token).stderr
    token = container.installer_token()
    assert container.enrol_with(token).returncode == 0
    other = Container(container.portal, container.directory.with_name("other"))
    spent = other.enrol_with(token)
    assert (spent.returncode, "[installer_token_spent]" in spent.stderr) == (68, True)


@pytest.mark.parametrize("text", ["", "   ", "two tokens", "x" * 600, "atom-ü"])
def test_standard_input_without_a_token_is_named(container: Container, text: str) -> None:
    addresses = ("--portal", container.portal.url, "--vault", container.portal.vault_address)
    done = container.command("enrol", *addresses, input=text)
    assert (done.returncode, "[installer_token_unreadable]" in done.stderr) == (68, True)


def test_no_address_but_the_command_lines_is_used(container: Container) -> None:
    """A portal that redirects leads nowhere, and the token goes to nobody else."""
    token = container.installer_token()
    with misbehaving(Misbehaving.REDIRECT) as server:
        addresses = ("--portal", server.address, "--vault", container.portal.vault_address)
        done = container.command("enrol", *addresses, input=token)
        assert (done.returncode, "[portal_redirects]" in done.stderr) == (72, True)
        assert server.followed == 0
    assert container.enrol_with(token).returncode == 0  # the addresses are corrected on the command line


def test_the_vaults_address_for_the_portals_is_named(container: Container) -> None:
    vault = container.portal.vault_address
    done = container.command("enrol", "--portal", vault, "--vault", vault, input=container.installer_token())
    assert done.returncode == 72, done.stderr
    assert f"This is not the portal's address: {vault} refuses" in done.stderr
    assert "[not_a_portal]" in done.stderr


def test_sync_finishes_an_enrolment_that_was_begun(container: Container) -> None:
    until_delivered(container, container.installer_token())
    assert container.command("get", "a", "b").returncode == 79
    assert container.command("status").returncode == 67
    assert container.command("sync").returncode == 0
    assert container.status()["verdict"] == "ok"


def test_an_enrolment_the_portal_never_heard_of_needs_its_token_again(container: Container) -> None:
    begun(container, container.installer_token())
    done = container.command("sync")
    assert (done.returncode, "[enrolment_unfinished]" in done.stderr) == (67, True)
