"""A production process does not start with another one's credentials, nor with a clock that is wrong; here at a real vault."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from accounts import signing
from accounts.keyring import KeyringBroken, development_key, development_list
from kmscore.sealed.key_list import sign_key_list
from kmsportal import start
from tests.conftest import HostedVault
from vaults.hosted.sessions import drop_tokens


@pytest.fixture(autouse=True)
def production(settings: Any, hosted_vault: HostedVault) -> None:
    settings.PRODUCTION = True


def holding(settings: Any, vault: HostedVault, name: str) -> None:
    settings.CREDENTIALS = str(vault.credentials / name)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("worker", "web"),
        ("web", "worker"),
        ("shredder", "worker"),
        ("all", "web"),
    ],
)
def test_no_process_starts_with_anothers_credentials(
    settings: Any, hosted_vault: HostedVault, held: str, wanted: str
) -> None:
    holding(settings, hosted_vault, held)
    name = "another set" if held == "all" else held
    with pytest.raises(ImproperlyConfigured, match=f"is of {name}, and this process is to have {wanted}'s alone"):
        start.check(wanted)


@pytest.mark.parametrize("name", ["web", "worker", "shredder"])
def test_it_starts_with_its_own(settings: Any, hosted_vault: HostedVault, name: str) -> None:
    holding(settings, hosted_vault, name)
    settings.SECRET_KEY_GIVEN = name == "web"
    start.check(name)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [("web", False, "Set KMS_SECRET_KEY"), ("worker", True, "KMS_SECRET_KEY is web's alone")],
)
def test_the_key_of_sessions_is_webs_and_webs_alone(
    settings: Any, hosted_vault: HostedVault, name: str, given: bool, says: str
) -> None:
    holding(settings, hosted_vault, name)
    settings.SECRET_KEY_GIVEN = given
    with pytest.raises(ImproperlyConfigured, match=says):
        start.check(name)


def test_no_process_starts_with_anothers_signing_keys(settings: Any, hosted_vault: HostedVault, tmp_path: Path) -> None:
    shutil.copytree(hosted_vault.credentials / "web", tmp_path / "web")
    for keys, whose in (("all", "web and worker and watch and shredder"), ("backup", "nobody")):
        shutil.copy(hosted_vault.credentials / keys / "signing-keys", tmp_path / "web")
        settings.CREDENTIALS = str(tmp_path / "web")
        signing.use_directories([])
        with pytest.raises(ImproperlyConfigured, match=f"has the signing keys of {whose}: this process signs as web"):
            start.check("web")
    (tmp_path / "web" / "portal-keys").unlink()
    signing.use_directories([])
    settings.MODE = "production"
    with pytest.raises(KeyringBroken, match="portal-keys cannot be read"):
        start.check("web")
    settings.MODE = "development"
    signing.use_directories([])


def test_a_missing_file_is_said(settings: Any) -> None:
    settings.CREDENTIALS = "/not/there"
    with pytest.raises(ImproperlyConfigured, match=r"KMS_CREDENTIALS: /not/there/identities.json cannot be read"):
        start.check("web")


@pytest.mark.parametrize(("minutes", "says"), [(2, "ahead of"), (-2, "behind")])
def test_a_clock_that_is_wrong_is_said(settings: Any, hosted_vault: HostedVault, minutes: int, says: str) -> None:
    holding(settings, hosted_vault, "web")
    with (
        time_machine.travel(timezone.now() + timedelta(minutes=minutes)),
        pytest.raises(ImproperlyConfigured, match=f"s {says} the vault's"),
    ):
        start.check("web")


def test_a_vault_that_does_not_answer_is_waited_for(settings: Any, hosted_vault: HostedVault) -> None:
    holding(settings, hosted_vault, "web")
    settings.VAULT_ADDR = "http://127.0.0.1:1"
    drop_tokens()
    start.check("web")


def test_a_shred_worker_is_one_that_does_nothing_else() -> None:
    assert [start.process_of(one) for one in (["shred"], ["interactive"], ["bulk"], ["interactive", "shred"])] == [
        *("shredder", "worker", "worker", "worker")
    ]


def test_no_process_starts_with_an_older_key_list_than_the_vaults(settings: Any, hosted_vault: HostedVault) -> None:
    holding(settings, hosted_vault, "worker")
    settings.SECRET_KEY_GIVEN = False
    newer = development_list().followed_by(development_list().keys, 0)
    body = {"data": {"keys": sign_key_list(development_key("root"), newer)}, "options": {"cas": 0}}
    hosted_vault.root.call("POST", "authority/data/portal", body)
    try:
        with pytest.raises(
            ImproperlyConfigured, match="the vault has list 2, portal-keys is list 1. Run install_vault"
        ):
            start.check("worker")
    finally:
        hosted_vault.root.call("DELETE", "authority/metadata/portal")
    start.check("worker")
