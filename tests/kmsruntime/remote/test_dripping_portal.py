"""A portal, or a proxy before it, that answers in drops: the program gives up in time, and the token of the vault lives on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from kmscore.vaultclient.answers import VaultError
from kmsruntime.errors import PortalUnavailable
from kmsruntime.remote import portal
from tests.customer import CustomersVault
from tests.kmscore.byov.situations import dripping
from tests.kmsruntime.byov_machine import QUICK, Byov
from tests.kmsruntime.container import Container, save
from tests.live import ROOT

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b"H"),
        (HEAD, b"X: y\r\n"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (HEAD + b"\r\n", b" "),
    ],
    ids=["status line", "headers", "body", "chunks", "body without a length"],
)
def test_an_answer_that_comes_in_drops_ends_at_the_deadline(
    head: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each drop comes long before the socket's own timeout."""
    monkeypatch.setattr(portal, "ANSWER_SECONDS", 0.5)
    with dripping(head, drop) as address:
        began = time.monotonic()
        with pytest.raises(PortalUnavailable) as caught:
            portal.Portal(address).get("sync", "canary-token")
        assert 0.4 < time.monotonic() - began < 2
    assert (caught.value.code, caught.value.__context__) == ("portal_timeout", None)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_the_token_is_renewed_while_the_portal_answers_in_drops(
    enrolled: Container, customers_vault: CustomersVault, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    """From the very start: the daemon of a restarted machine meets such a portal first."""
    monkeypatch.setenv("VAULT_CACERT", str(customers_vault.ca))
    save(enrolled.stage, password="one")
    held = Byov(enrolled, customers_vault, enrolled.stage.atom)
    key, vault = held.key, customers_vault
    held.turn_on(file=held.file(lifecycle=QUICK, token=vault.make_token(key, period="6s")), wrapped=wrapped)
    enrolled.sync()
    with dripping(HEAD, b"X: y\r\n") as address:
        enrolled.home.write_config(replace(enrolled.home.read_config(), portal=address))
        with running(held):
            time.sleep(14)
            assert alive(held)
    time.sleep(7)
    assert not alive(held), "nobody else keeps it alive"


@contextmanager
def running(byov: Byov) -> Iterator[None]:
    words = byov.container.words("run", "--poll", "0.5")
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, cwd=ROOT, env=byov.environment)
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def alive(byov: Byov) -> bool:
    try:
        byov.customer.root.call("POST", "auth/token/lookup", {"token": byov.token})
    except VaultError:
        return False
    return True
