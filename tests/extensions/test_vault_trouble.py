"""While the vault is in trouble nothing is half saved, the page says what it is, and the same form saves afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atoms import actions as atoms
from extensions.models import ExtensionValue
from tests.conftest import Cast, HostedVault, Stage, install_layout, set_stage
from tests.extensions.dialog import Dialog
from tests.faulty_vault import failing_at
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.servers import free_port, start_openbao
from vaults.hosted.sessions import drop_tokens
from vaults.keys.disable import disable_kms
from vaults.models import DataKey, KmsAccount

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
TYPED = {"secret_password": "typed while it was away", "value_user": "kept as typed"}


@contextmanager
def vault_at(settings: Any, address: str) -> Iterator[None]:
    """The portal's vault has this address inside the block, and it has no login yet."""
    before, settings.VAULT_ADDR = settings.VAULT_ADDR, address
    drop_tokens()
    yield
    settings.VAULT_ADDR = before
    drop_tokens()


def check_refused(dialog: Dialog, sentence: str) -> None:
    """By htmx and without: nothing written, the reason in words, what was typed kept (a secret in the browser only)."""
    for htmx in (False, True):
        answer = dialog.post(expected=0, htmx=htmx, **TYPED)
        text = answer.content.decode()
        assert answer.status_code == (422 if htmx else 503)
        assert f"Nothing was saved. {sentence}" in text.replace("&#x27;", "'")
        assert "typed while it was away" not in text
        assert ("kept as typed" in text) is not htmx, "htmx swaps only the messages"
    assert dialog.holds() == set()
    assert DataKey.objects.count() == 0
    assert dialog.revision() == 0


def check_saves(dialog: Dialog) -> None:
    assert dialog.post(expected=0, **TYPED).status_code == 302
    assert {key for key, _ in dialog.holds()} == {"password", "user", "host"}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (Misbehaving.HTML, "What answers at the vault's address is not a vault."),
        (Misbehaving.HTML_ERROR, "The vault's address answers with an error page."),
        (Misbehaving.REDIRECT, "The vault's address answers with a redirect"),
        (Misbehaving.NOT_JSON, "What answers at the vault's address is not a vault."),
        (Misbehaving.EMPTY_OBJECT, "The vault's answer could not be read."),
        (Misbehaving.SERVER_ERROR, "The vault reports an internal error."),
        (Misbehaving.BUSY, "The vault is at its rate limit."),
        pytest.param(Misbehaving.SILENT, "The vault did not answer in time.", marks=pytest.mark.slow),
        (Misbehaving.CUT_OFF, "The vault cannot be reached."),
    ],
)
def test_something_else_answers(stage: Stage, settings: Any, how: Misbehaving, sentence: str) -> None:
    dialog = Dialog(stage)
    with misbehaving(how) as server, vault_at(settings, server.address):
        check_refused(dialog, sentence)
        assert server.followed == 0
    check_saves(dialog)


def test_nobody_answers(stage: Stage, settings: Any) -> None:
    with vault_at(settings, f"http://127.0.0.1:{free_port()}"):
        check_refused(Dialog(stage), "The vault cannot be reached.")
    check_saves(Dialog(stage))


@pytest.mark.parametrize("applied", [False, True])
def test_it_fails_between_data_key_and_document(
    stage: Stage, hosted_vault: HostedVault, settings: Any, applied: bool
) -> None:
    """Whether or not the vault did it after all: an unused wrapped key is harmless, a value without its key impossible."""
    dialog = Dialog(stage)
    with failing_at(settings.VAULT_ADDR, "/datakeys/", applied=applied) as address, vault_at(settings, address):
        check_refused(dialog, "The vault reports an internal error.")
    check_saves(dialog)
    wanted = str(ExtensionValue.objects.get(form="sealed").data_key_id)
    assert wanted in hosted_vault.root.read_document("datakeys", f"{stage.production.pk}/0")


@pytest.fixture
def own_vault(cast: Cast, settings: Any, tmp_path: Path) -> Iterator[tuple[HostedVault, Stage]]:
    """A vault this test may seal and stop, and the stage on it."""
    server = start_openbao()
    try:
        vault = install_layout(server, tmp_path)
        settings.CREDENTIALS = str(vault.credentials / "all")
        with vault_at(settings, vault.address):
            yield vault, set_stage(cast)
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.stop()


def test_it_is_sealed_and_everything_but_saving_goes_on(own_vault: tuple[HostedVault, Stage]) -> None:
    vault, stage = own_vault
    dialog = Dialog(stage)
    dialog.post(secret_password="before", htmx=True)
    vault.root.call("PUT", "sys/seal", {})
    answer = dialog.post(secret_password="while sealed")
    assert answer.status_code == 503
    assert "Nothing was saved. The vault is sealed." in answer.content.decode()
    assert "&lt;Encrypted&gt;" in dialog.page()
    found = dialog.client.get("/ready").json()
    assert (found["database"], found["vault"]) == ("ok", "vault_sealed")
    made = atoms.create_environment(stage.account, name="Later", classification="TEST", actor=stage.alice)
    assert made.provisioned_at is None


def test_it_hangs_and_the_answer_comes_in_time(own_vault: tuple[HostedVault, Stage]) -> None:
    vault, stage = own_vault
    dialog = Dialog(stage)
    os.kill(vault.server.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    answer = dialog.post(**TYPED)
    assert time.monotonic() - began < 10
    assert answer.status_code == 503
    assert "The vault did not answer in time." in answer.content.decode()
    os.kill(vault.server.process.pid, signal.SIGCONT)
    check_saves(dialog)


def test_an_account_without_kms_says_why_and_saves_plain_values(stage: Stage) -> None:
    KmsAccount.objects.filter(account=stage.account).delete()
    stage.account.recipients.all().delete()  # as if it had never been activated
    dialog = Dialog(stage)
    assert "Encrypted values cannot be saved" in dialog.page()
    answer = dialog.post(**TYPED)
    assert answer.status_code == 422
    assert "The Key Management Service of this account is not active." in answer.content.decode()
    assert dialog.holds() == set()
    assert dialog.post(value_user="plain is fine").status_code == 302


def test_while_kms_is_disabled_the_page_says_so_and_who_can_enable_it(stage: Stage) -> None:
    """It once told administrators to ask the operator, and that plain values can be saved, which they cannot."""
    disable_kms(stage.account, days=30, actor=stage.alice)
    page = Dialog(stage).page()
    assert "Nothing can be saved" in page
    assert "An administrator can enable it again under Keys, until" in page
    assert "Plain values can be saved" not in page
    answer = Dialog(stage).post(value_user="plain")
    assert answer.status_code == 422
    assert "nothing can be sealed until it is enabled again" in answer.content.decode()


def test_an_environment_whose_key_is_not_made_yet_says_so(stage: Stage) -> None:
    stage.production = atoms.create_environment(stage.account, name="New", classification="TEST", actor=stage.alice)
    answer = Dialog(stage).post(**TYPED)
    assert answer.status_code == 422
    assert "The hosted vault has no key for this environment yet." in answer.content.decode()
    assert Dialog(stage).holds() == set()
