"""A clock that jumps ends what should have ended, revives nothing, and locks nobody out."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from atoms.models import InstallerToken
from kmscore.vaultclient.client import Vault
from tests.atomapi.test_enrol import Machine, enrolled, installer_token
from tests.conftest import HostedVault, Stage, client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def in_(**span: float) -> time_machine.travel:
    return time_machine.travel(timezone.now() + timedelta(**span), tick=True)


def test_an_installer_token_ends_when_it_says(stage: Stage, hosted_vault: HostedVault) -> None:
    token = installer_token(stage, minutes=30)
    with in_(minutes=31):
        answer = Machine(token).enrol()
    assert (answer.status_code, answer.json()["code"]) == (409, "installer_token_expired")
    with in_(minutes=29):
        assert Machine(token).enrol().status_code == 202


@pytest.mark.parametrize("days", [-3650, -1, 1, 3650])
def test_a_spent_token_stays_spent(stage: Stage, hosted_vault: HostedVault, days: int) -> None:
    token = installer_token(stage)
    machine = Machine(token)
    delivery = machine.delivery()
    accessors = [machine.log_in(Vault(hosted_vault.address), grant)[1] for grant in delivery["grants"]]
    machine.post(f"enrolments/{delivery['enrolment']}/confirm", {"accessors": accessors})
    with in_(days=days):
        assert Machine(token).enrol().json()["code"] == "installer_token_spent"


@pytest.mark.parametrize("days", [-365, -1, 1, 365])
def test_an_enrolled_machine_goes_on_syncing(stage: Stage, hosted_vault: HostedVault, days: int) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    with in_(days=days):
        answer = machine.get("sync", machine.sync)
        assert answer.status_code == 200
        again = machine.get("sync", machine.sync, **{"if-none-match": answer.headers["ETag"]})
        assert again.status_code == 304


def test_a_session_ends_after_eight_hours(stage: Stage) -> None:
    client, page = client_of(stage.alice), f"/accounts/{stage.account.code}/atoms/"
    with in_(hours=7.9):
        assert client.get(page).status_code == 200
    with in_(hours=8.1):
        assert client.get(page).status_code == 302


@pytest.mark.parametrize("page", ["installation/", "attach/", "detach/", "delete/"])
def test_what_grants_or_destroys_asks_for_the_password_again_after_ten_minutes(stage: Stage, page: str) -> None:
    client, address = client_of(stage.alice), f"/accounts/{stage.account.code}/atoms/{stage.atom.pk}/{page}"
    assert client.get(address).status_code == 200
    with in_(minutes=11):
        answer = client.post(address, {"name": stage.atom.name, "minutes": "60"})
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/auth/reauthenticate/")
    stage.atom.refresh_from_db()
    assert stage.atom.environment == stage.production
    assert not InstallerToken.objects.exists()
