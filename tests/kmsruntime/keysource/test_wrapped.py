"""A wrapped encryption key: nothing on the disk opens anything without the customer's vault, whatever happens meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from atoms import actions as atoms
from kmscore.byov.customer import Lifecycle
from kmscore.vaultclient.answers import VaultError
from kmsruntime.disk import credentials
from kmsruntime.disk.state import read_state
from kmsruntime.enrolment.enrol import NotYet
from kmsruntime.errors import CustomerVaultRefused
from kmsruntime.status.selfcheck import EVERY_SECONDS, SOON_SECONDS
from tests.customer import CustomersVault
from tests.kmscore.byov.situations import lying
from tests.kmsruntime.byov_machine import HELD, QUICK, Byov, assert_clean, logs_in, lying_open, secrets_of
from tests.kmsruntime.container import Container, save
from tests.live import ROOT
from tests.servers import free_port
from vaults.models import ContainerReport, SecretId

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def without_portal(container: Container) -> None:
    container.home.write_config(replace(container.home.read_config(), portal=f"http://127.0.0.1:{free_port()}"))


def without_hosted_vault(container: Container) -> None:
    container.home.write_config(replace(container.home.read_config(), vault=f"http://127.0.0.1:{free_port()}"))


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_the_search_finds_what_lies_open(held: Byov) -> None:
    """Not wrapped, all of it does: the tests below would see it."""
    found = {line.partition(" in ")[0] for line in lying_open(held.container.directory, secrets_of(held.container))}
    assert found == {"sync credential", "role_id", "secret_id", "at-rest key"}


def test_the_disk_is_clean_after_the_switch_and_after_each_change(held: Byov) -> None:
    container, stage = held.container, held.container.stage
    earlier = [secrets_of(container)]
    held.turn_on(wrapped=True)

    def clean() -> None:
        assert_clean(container, *earlier)
        earlier.append(secrets_of(container))

    container.sync()
    clean()
    save(stage, apiKey="another")
    container.sync()
    clean()
    atoms.attach(stage.atom, stage.test, actor=stage.alice)
    container.sync()
    clean()
    atoms.attach(stage.atom, stage.production, actor=stage.alice)
    container.sync()
    clean()
    assert held.get() == HELD
    atoms.detach(stage.atom, actor=stage.alice)
    container.sync()
    clean()
    held.turn_on(wrapped=True)
    container.sync()
    clean()
    atoms.attach(stage.atom, stage.production, actor=stage.alice)
    container.sync()
    clean()
    assert (held.get(), held.get("apiKey")) == (HELD, "another")
    assert held.report().verdict == "ok"


def test_a_renewal_leaves_nothing_on_the_disk(wrapped: Byov) -> None:
    container = wrapped.container
    before, old = secrets_of(container), container.synchroniser().sealed_state.environment()
    synchroniser = container.synchroniser()
    with container.home.lock():
        synchroniser._renewal.fetch("renewal")
    new = container.synchroniser().sealed_state.environment()
    assert new.login is not None
    assert old.login is not None
    assert new.login.accessor != old.login.accessor
    assert_clean(container, before)
    assert not container.home.handover.exists()
    assert credentials.read_atom(container.home).next_login is None
    assert wrapped.get() == HELD


def test_a_hand_over_that_waits_has_no_secret_on_the_disk(wrapped: Byov) -> None:
    """Watched after every file that is replaced: while the credentials are asked for, opened, tried and confirmed."""
    container = wrapped.container
    before = secrets_of(container)
    seen = []

    def impatient(seconds: float) -> bool:
        seen.append(json.loads(container.home.handover.read_bytes()))
        return False

    synchroniser = container.synchroniser()
    synchroniser._renewal._wait = impatient
    with container.home.lock(), pytest.raises(NotYet):
        synchroniser._renewal.fetch("renewal")
    assert [(one["enrolment"] != "", one["sync_token"], one["grants"]) for one in seen] == [(True, "", [])]
    assert_clean(container, before)
    assert container.sync().result == "unchanged"
    assert not container.home.handover.exists()
    assert_clean(container, before)


def test_a_hand_over_that_was_begun_before_the_switch_is_cleaned_too(held: Byov) -> None:
    container = held.container
    synchroniser = container.synchroniser()
    synchroniser._renewal._wait = lambda seconds: False
    with container.home.lock(), pytest.raises(NotYet):
        synchroniser._renewal.fetch("renewal")
    before = secrets_of(container)
    assert "sync credential in handover.json" in lying_open(container.directory, before)
    held.turn_on(wrapped=True)
    container.sync()
    assert_clean(container, before)
    assert held.get() == HELD


def test_the_login_that_lay_in_the_clear_is_destroyed_without_anybody(held: Byov) -> None:
    container = held.container
    old = credentials.read_environment(container.home).login
    assert old is not None
    assert logs_in(container, old)
    held.turn_on(wrapped=True)
    container.sync()
    deadline = time.monotonic() + 20
    while SecretId.objects.get(accessor=old.accessor).destroyed_at is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not logs_in(container, old)
    new = container.synchroniser().sealed_state.environment()
    assert new.login is not None
    assert (new.exposed, logs_in(container, new.login)) == (False, True)
    accessors = SecretId.objects.count()
    container.sync()
    assert SecretId.objects.count() == accessors, "once is enough"


def test_wrapping_again_too_soon_replaces_the_logins_all_the_same(wrapped: Byov) -> None:
    """The portal's limit on replacing the sync credential keeps nothing else back."""
    container = wrapped.container
    wrapped.turn_on(wrapped=False)
    container.sync()
    old = credentials.read_environment(container.home).login
    assert old is not None
    wrapped.turn_on(wrapped=True)
    container.sync()
    half = container.synchroniser().sealed_state.environment()
    assert half.login is not None
    assert (half.login.accessor != old.accessor, half.exposed) == (True, False)


# -- starting ----------------------------------------------------------------------------------------------------------


def refused(byov: Byov, *words: str, exit_code: int, code: str) -> None:
    done = byov.container.command(*words, env=byov.environment)
    assert done.returncode == exit_code, done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"[{code}]"), done.stderr
    assert HELD not in done.stdout + done.stderr


STARTS = (("get", "Orders database", "password"), ("exec", "--", "env"), ("sync",))


def test_wrapped_nothing_starts_while_the_customers_vault_is_down(held: Byov, own_vault: CustomersVault) -> None:
    file = held.file(own_vault, trust_store=str(own_vault.ca), read_timeout=0.5, connection_timeout=0.5)
    held.turn_on(file=file, wrapped=True)
    held.container.sync()
    own_vault.process.send_signal(signal.SIGSTOP)
    for words in STARTS:
        refused(held, *words, exit_code=81, code="vault_timeout")
    assert (held.report().verdict, held.failed_step()) == ("vault_timeout", ("tls", "vault_timeout"))
    own_vault.process.send_signal(signal.SIGCONT)
    assert held.get() == HELD
    assert held.container.sync().result == "unchanged"
    assert (held.report().verdict, held.failed_step()) == ("ok", None)


def test_plain_values_are_given_while_everything_is_down(held: Byov, own_vault: CustomersVault) -> None:
    held.turn_on(file=held.file(own_vault, trust_store=str(own_vault.ca)))
    held.container.sync()
    assert held.header().source == "byov"
    own_vault.kill()
    without_portal(held.container)
    without_hosted_vault(held.container)
    assert held.get() == HELD
    done = held.container.command("exec", "--only", "Orders database/password", "--", "env", env=held.environment)
    assert f"ORDERS_DATABASE_PASSWORD={HELD}" in done.stdout


def test_wrapped_with_the_portal_down_what_is_kept_opens_the_store(wrapped: Byov) -> None:
    config = wrapped.container.home.read_config()
    without_portal(wrapped.container)
    assert wrapped.get() == HELD
    refused(wrapped, "sync", exit_code=70, code="portal_unreachable")
    wrapped.container.home.write_config(config)
    without_hosted_vault(wrapped.container)  # which opens the properties file with the customer's token
    refused(wrapped, *STARTS[0], exit_code=73, code="vault_unreachable")


# -- the customer's token ----------------------------------------------------------------------------------------------


@pytest.fixture
def start(enrolled: Container) -> Iterator[Callable[[dict[str, str]], subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def run(environment: dict[str, str]) -> subprocess.Popen[str]:
        words = enrolled.words("run", "--poll", "0.5")
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


Start = Callable[[dict[str, str]], "subprocess.Popen[str]"]


def told(verdict: str) -> Callable[[], bool]:
    return lambda: ContainerReport.objects.filter(verdict=verdict).exists()


def test_wrapped_a_revoked_token_is_met_at_the_next_start(wrapped: Byov, start: Start) -> None:
    process = start(wrapped.environment)
    until(lambda: ContainerReport.objects.filter(token__isnull=False).exists())
    wrapped.customer.revoke(wrapped.token)
    revoked = time.time()
    wrapped.container.after_more_syncs()
    assert process.poll() is None
    until(lambda: read_state(wrapped.container.home).contact > revoked)  # it still asks the portal
    assert wrapped.report().verdict == "ok"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    process = start(wrapped.environment)
    until(told("token_invalid"))
    assert process.poll() is None
    assert wrapped.failed_step() == ("token", "token_invalid")
    assert (wrapped.report().source, wrapped.report().wrapped, wrapped.report().values) == ("byov", True, 1)
    for words in STARTS:
        refused(wrapped, *words, exit_code=82, code="token_invalid")

    revision = wrapped.turn_on(wrapped=True)  # a file with another token, and nothing else, mends it
    until(told("ok"), 40)
    assert wrapped.is_sealed_for(revision, mode="byov", wrapped=True, values=1)
    assert (wrapped.get(), wrapped.failed_step()) == (HELD, None)
    assert_clean(wrapped.container)
    process.send_signal(signal.SIGTERM)
    lines = process.communicate(timeout=60)[1]
    assert HELD not in lines
    assert lines.count("[token_invalid]") == 1


def test_wrapped_a_token_that_ended_is_not_well_although_the_store_is_open(held: Byov, start: Start) -> None:
    """`run` has the key in its memory and goes on; `get`, `exec` and the next start have nothing any more."""
    held.turn_on(file=held.file(lifecycle=QUICK, token=held.customer.make_token(held.key, period="4s")), wrapped=True)
    process = start(held.environment)
    until(lambda: has_taken_over(held))
    until(told("ok"))
    held.customer.revoke(held.token)
    until(told("token_revoked"))
    held.container.after_more_syncs()
    assert process.poll() is None
    found = held.container.status()
    assert (found["verdict"], held.report().verdict) == ("token_revoked", "token_revoked")
    assert "The token was revoked. Until that is mended get and exec give nothing" in found["sentence"]
    refused(held, *STARTS[0], exit_code=82, code="token_invalid")
    held.turn_on(wrapped=True)
    until(told("ok"), 40)
    assert (held.get(), held.container.status()["verdict"]) == (HELD, "ok")


def test_wrapped_a_vault_that_is_away_is_not_well_although_the_store_is_open(
    held: Byov, own_vault: CustomersVault, start: Start
) -> None:
    token = own_vault.make_token(held.key, period="60s")
    hasty = Lifecycle(True, refresh_before_expiry=59.5, expiry_threshold=1.0)
    ways = {"trust_store": str(own_vault.ca), "read_timeout": 0.5, "connection_timeout": 0.5}
    held.turn_on(file=held.file(own_vault, token=token, lifecycle=hasty, **ways), wrapped=True)
    start(held.environment)
    until(lambda: ContainerReport.objects.filter(verdict="ok", token__isnull=False).exists())
    own_vault.process.send_signal(signal.SIGSTOP)
    until(told("vault_timeout"))
    assert held.container.status()["verdict"] == "vault_timeout"
    own_vault.process.send_signal(signal.SIGCONT)
    until(told("ok"))


def test_wrapped_a_hosted_vault_that_is_away_is_not_well_either(held: Byov) -> None:
    """It opens the properties file with the customer's token at each start; the self-check asks it every few minutes."""
    container = held.container
    held.turn_on(wrapped=True)
    config = container.home.read_config()
    with lying(config.vault, "never", bytes) as address:  # it tells no lie: it is a way that can be shut
        container.home.write_config(replace(config, vault=address))
        synchroniser = container.synchroniser()
        synchroniser.sync()
        assert (synchroniser.self_check.run(), synchroniser.sync().result) == (EVERY_SECONDS, "unchanged")
        assert container.status()["verdict"] == held.report().verdict == "ok"
    assert (synchroniser.self_check.run(), synchroniser.sync().result) == (SOON_SECONDS, "unchanged")
    assert container.status()["verdict"] == held.report().verdict == "vault_unreachable"
    refused(held, *STARTS[0], exit_code=73, code="vault_unreachable")


def test_plain_a_revoked_token_is_reported_and_the_values_are_given(held: Byov, start: Start) -> None:
    held.turn_on(file=held.file(lifecycle=QUICK, token=held.customer.make_token(held.key, period="4s")))
    process = start(held.environment)
    until(lambda: has_taken_over(held))
    held.customer.revoke(held.token)
    until(lambda: ContainerReport.objects.filter(token__problem="token_revoked").exists())
    assert process.poll() is None
    assert held.get() == HELD
    save(held.container.stage, apiKey="waiting")
    until(told("token_invalid"))
    assert held.get() == HELD
    with pytest.raises(CustomerVaultRefused):
        held.container.sync()


def test_run_keeps_a_short_token_alive(held: Byov, start: Start) -> None:
    held.turn_on(file=held.file(lifecycle=QUICK, token=held.customer.make_token(held.key, period="4s")), wrapped=True)
    process = start(held.environment)
    until(lambda: has_taken_over(held))
    taken_over = renewed_at(held)
    until(lambda: renewed_at(held) > taken_over + 4)  # at a time when it would long be dead, had nobody renewed it
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    until(lambda: not alive(held))


def test_a_vault_that_is_not_allowed_any_more_is_not_given_the_token_by_a_run(held: Byov, start: Start) -> None:
    """It went on renewing there, without an end, while the list said none and `check` refused."""
    held.container.command("allow-vault", held.customer.address)
    token = held.customer.make_token(held.key, period="4s")
    held.turn_on(file=held.file(lifecycle=QUICK, token="${AUTH_TOKEN}"))
    held.token = token
    process = start(held.environment | {"AUTH_TOKEN": token})
    until(lambda: has_taken_over(held))
    held.container.command("allow-vault", "--remove", held.customer.address)
    until(lambda: not alive(held))
    until(lambda: ContainerReport.objects.filter(token__problem="confirm_vault").exists())
    assert held.get() == HELD
    process.send_signal(signal.SIGTERM)
    assert "[confirm_vault]" in process.communicate(timeout=60)[1]


def has_taken_over(byov: Byov) -> bool:
    """Whether `run` looks after the token; until it does, the test keeps it alive, however long the start takes."""
    byov.customer.root.call("POST", "auth/token/renew", {"token": byov.token})
    return ContainerReport.objects.filter(source="byov", token__isnull=False).exists()


def renewed_at(byov: Byov) -> int:
    """By the vault's own clock. Raises VaultError when the token is dead."""
    found = byov.customer.root.call("POST", "auth/token/lookup", {"token": byov.token})
    return int(found["data"]["last_renewal_time"])


def alive(byov: Byov) -> bool:
    try:
        renewed_at(byov)
    except VaultError:
        return False
    return True


# -- a damaged store ---------------------------------------------------------------------------------------------------


def damage(container: Container) -> None:
    """One bit of one value."""
    content = bytearray(container.home.store.read_bytes())
    content[-1] ^= 1
    container.home.store.write_bytes(bytes(content))


def test_a_damaged_store_is_healed_before_its_login_is_renewed(wrapped: Byov) -> None:
    container, atom = wrapped.container, credentials.read_atom(wrapped.container.home)
    damage(container)
    old = replace(atom.login, issued=atom.login.issued - 30 * 86400)
    credentials.write_atom(container.home, replace(atom, login=old))
    container.home.state.unlink()
    container.sync()
    assert wrapped.get() == HELD
    assert credentials.read_atom(container.home).login == old
    container.home.state.unlink(missing_ok=True)
    container.sync()
    assert credentials.read_atom(container.home).login.accessor != old.accessor
    assert (wrapped.get(), container.sync().result) == (HELD, "unchanged")
    assert_clean(container)


def test_a_new_login_is_kept_even_beside_a_damaged_store(wrapped: Byov) -> None:
    """Where the old one lets nobody in, nothing heals without it: what is confirmed is kept, and fetches the rest."""
    container = wrapped.container
    damage(container)
    synchroniser = container.synchroniser()
    with container.home.lock():
        synchroniser._renewal.fetch("lost")
    half = container.synchroniser().sealed_state.environment()
    assert half.login is not None
    assert logs_in(container, half.login)
    assert container.sync().result == "updated"
    assert wrapped.get() == HELD
    assert_clean(container)
