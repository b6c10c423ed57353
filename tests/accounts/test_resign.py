"""A change of each process's key while containers sync and people save: nobody notices, and nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import audit, signing
from accounts.keyring import DEVELOPMENT_ROOT, PROCESSES, NoSigningKey, development_key, write_signing_keys
from accounts.models import Role
from accounts.rows import SignedModel
from atoms import actions as atoms
from atoms.models import Atom, Environment
from operations.work import sweep
from tests.conftest import PASSWORD, HostedVault, Stage, database_url
from tests.kmsruntime.container import Container, save
from tests.live import ROOT, LivePortal, start_portal
from tests.security.visitor import Visitor

CONTAINERS = 20
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def vault(hosted_vault: HostedVault, tmp_path: Path) -> Iterator[HostedVault]:
    """The hosted vault with the processes' directories for this test alone, and the root key of their list."""
    directory = tmp_path / "credentials"
    shutil.copytree(hosted_vault.credentials, directory)
    write_signing_keys(directory / "portal-root-key", [("root", development_key("root"))])
    (directory / "portal-root").write_text(DEVELOPMENT_ROOT.hex())
    yield replace(hosted_vault, credentials=directory)
    hosted_vault.root.call("DELETE", "authority/metadata/portal")


@pytest.fixture
def portal(stage: Stage, vault: HostedVault, tmp_path: Path) -> Iterator[LivePortal]:
    (tmp_path / "portal").mkdir()
    running = start_portal(vault, database_url(), tmp_path / "portal")
    running.stage = stage
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(autouse=True)
def own_keys_again() -> Iterator[None]:
    yield
    signing.use_directories([])


def install(vault: HostedVault, *step: str) -> None:
    common = ("--address", vault.address, "--credentials", str(vault.credentials), "--token", vault.server.root_token)
    call_command("install_vault", *common, *step, stdout=open("/dev/null", "w"))  # noqa: PTH123, SIM115


def resign(portal: LivePortal, vault: HostedVault, process: str) -> str:
    """As that process's user would run it."""
    done = subprocess.run(
        [sys.executable, "manage.py", "resign", "--settled", "5"],
        cwd=ROOT,
        env=portal.environment | {"KMS_CREDENTIALS": str(vault.credentials / process)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Crowd:
    """Threads that go on until they are told to stop. `failures`: what any of them saw."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.acts = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, act: Callable[[], object], pause: float) -> None:
        def go_on() -> None:
            while not self._stop.is_set():
                try:
                    act()
                    self.acts += 1
                except Exception as error:  # noqa: BLE001 (any is one too many)
                    self.failures.append(f"{type(error).__name__}: {error}")
                self._stop.wait(pause)
            connection.close()

        self._threads.append(threading.Thread(target=go_on))
        self._threads[-1].start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def saver(portal: LivePortal, environment: Environment) -> Callable[[], None]:
    """Somebody who saves in this environment, again and again."""
    alice, number = Visitor(portal.url), [0]
    alice.sign_in(portal.stage.alice.email, PASSWORD)
    page = f"/accounts/{portal.stage.account.code}/environments/{environment.pk}/extensions/"
    password, user = portal.stage.field("password").pk, portal.stage.field("user").pk

    def act() -> None:
        number[0] += 1
        revision = Environment.objects.get(pk=environment.pk).extensions_revision
        form = {
            "expected_revision": str(revision),
            f"secret.{password}": f"s{number[0]}",
            f"value.{user}": f"u{number[0]}",
        }
        answer = alice.post(page, form)
        assert answer.status == 302, answer.text[-800:]

    return act


def builder(portal: LivePortal) -> Callable[[], None]:
    """Somebody who makes environments and renames them."""
    alice, number = Visitor(portal.url), [0]
    alice.sign_in(portal.stage.alice.email, PASSWORD)

    def act() -> None:
        number[0] += 1
        page = f"/accounts/{portal.stage.account.code}/environments/new/"
        answer = alice.post(page, {"name": f"Environment {number[0]}", "classification": "TEST"})
        assert answer.status == 302, answer.text[-800:]

    return act


def rows() -> Iterator[Any]:
    for model in apps.get_models():
        if issubclass(model, SignedModel):
            yield from model._base_manager.all()


def test_each_key_changes_while_everybody_works(portal: LivePortal, vault: HostedVault, tmp_path: Path) -> None:
    stage = portal.stage
    save(stage, password="first")
    molecule = atoms.create_atom(
        stage.account, name="Many", type="MOLECULE", environment=stage.production, actor=stage.alice
    )
    sweep()
    containers = [Container(portal, tmp_path / f"container{at}").enrol(molecule) for at in range(CONTAINERS)]
    crowd = Crowd()
    for container in containers:
        crowd.add(container.sync, 1.0)
    for environment in (stage.production, stage.test):
        crowd.add(saver(portal, environment), 0.3)
    crowd.add(builder(portal), 1.0)
    try:
        for process in PROCESSES:
            install(vault, "--new-key", process)
            install(vault, "--use-key", process, "--at-once")
            said = resign(portal, vault, process)
            install(vault, "--end-key", process)
            assert "none is left under an earlier key" in said
    finally:
        crowd.end()
    assert crowd.failures == []
    assert crowd.acts > CONTAINERS
    signing.use_directories([vault.credentials / process for process in PROCESSES])
    assert [str(row) for row in rows() if not row.has_valid_signature()] == []
    assert audit.first_broken(stage.account) is None, "what the ended keys signed stays verifiable"
    assert [key.state for key in signing.keyring().listed.keys] == ["dead"] * len(PROCESSES) + ["signing"] * len(
        PROCESSES
    )
    save(stage, password="last")
    for container in containers:
        container.sync()
        assert container.values()["Orders database/password"] == "last"


def test_without_resigning_an_ended_key_has_signed_nothing_any_more(stage: Stage, vault: HostedVault) -> None:
    """A stolen key: whatever it signed has to be decided again."""
    assert Atom.objects.get(pk=stage.atom.pk).has_valid_signature()
    for step in (["--new-key", "web"], ["--use-key", "web", "--at-once"], ["--end-key", "web"]):
        install(vault, *step)
    signing.use_directories([vault.credentials / "web"])
    assert not Atom.objects.get(pk=stage.atom.pk).has_valid_signature()
    assert audit.first_broken(stage.account) is None


def test_what_was_forged_is_named_and_never_becomes_genuine(stage: Stage, vault: HostedVault) -> None:
    Atom.objects.filter(pk=stage.atom.pk).update(name="Renamed past the portal")
    Role.objects.filter(name="Readers").update(privileges="ACCOUNT_ADMIN")
    install(vault, "--new-key", "web")
    install(vault, "--use-key", "web", "--at-once")
    signing.use_directories([vault.credentials / "web"])
    with pytest.raises(CommandError, match=f"2 rows bear no signature.*accounts.Role.*atoms.Atom {stage.atom.pk}"):
        call_command("resign", settled=0, stdout=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    install(vault, "--end-key", "web")
    assert not Atom.objects.get(pk=stage.atom.pk).has_valid_signature()
    assert Atom.objects.get(pk=stage.second.pk).has_valid_signature()


def test_a_process_signs_its_own_rows_only(stage: Stage, vault: HostedVault) -> None:
    signing.use_directories([vault.credentials / "worker"])
    with pytest.raises(NoSigningKey, match="Only web signs this"):
        atoms.rename_atom(Atom.objects.get(pk=stage.atom.pk), name="By the worker", actor=stage.alice)
    assert Atom.objects.get(pk=stage.atom.pk).name == "Orders Atom"
