"""An alarm of the login watch: what people are told of it, and what they do about it."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import AuditEntry
from atoms import actions as atoms
from operations.models import Operation
from operations.work import sweep
from tests.conftest import Stage
from tests.vaults.logins.made_logins import enrolled, forged, look, the_alarm
from vaults.hosted import calls
from vaults.logins import alarms
from vaults.models import LoginAlarm, SecretId

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgres,
    pytest.mark.usefixtures("impatient", "nothing_left"),
]


def path(stage: Stage, alarm: LoginAlarm, act: str) -> str:
    return f"/accounts/{stage.account.code}/kms/logins/{alarm.pk}/{act}/"


def test_an_administrator_destroys_it_and_then_closes_the_alarm(stage: Stage) -> None:
    accessor = forged("environments", stage.production.pk)
    look()
    alarm, alice = the_alarm(), stage.cast.client("alice")
    assert "Destroy 1 login" in alice.get(path(stage, alarm, "destroy")).content.decode()
    for _ in range(2):
        assert alice.post(path(stage, alarm, "destroy")).status_code == 302
    assert Operation.objects.filter(kind=alarms.DESTROY).count() == 1
    sweep()
    assert Operation.objects.get(kind=alarms.DESTROY).state == Operation.State.DONE
    assert calls.look_up_secret_id("environments", stage.production.pk, accessor) is None
    assert the_alarm().destroyed_at is not None
    page = alice.get(f"/accounts/{stage.account.code}/kms/").content.decode()
    assert "that nobody enrolled was destroyed" in page
    assert alice.post(path(stage, alarm, "close"), {"note": ""}).status_code == 200
    assert alice.post(path(stage, alarm, "close"), {"note": "a drill"}).status_code == 302
    assert "a drill" in AuditEntry.objects.get(action="ALARM_CLOSED").message
    look()
    assert LoginAlarm.objects.filter(closed_at=None).count() == 0
    assert [entry.action for entry in AuditEntry.objects.filter(action__startswith="ALARM").order_by("seq")] == [
        "ALARM",
        "ALARM_DESTROY",
        "ALARM_DESTROYED",
        "ALARM_CLOSED",
    ]


def test_destroying_twice_is_as_good_as_once(stage: Stage) -> None:
    forged("environments", stage.production.pk)
    look()
    for _ in range(2):
        operation = alarms.request_destruction(the_alarm(), actor=stage.alice)
        sweep()
        operation.refresh_from_db()
        assert operation.state == Operation.State.DONE
    assert AuditEntry.objects.filter(action="ALARM_DESTROYED").count() == 1


def test_a_forged_alarm_destroys_nobodys_login(stage: Stage) -> None:
    node = enrolled(stage)
    real = SecretId.objects.filter(node=node).first()
    assert real is not None
    slipped = LoginAlarm(account=stage.account, mount=real.mount, role=str(real.recipient_id), accessor=real.accessor)
    LoginAlarm.objects.bulk_create([slipped])
    assert stage.cast.client("alice").post(path(stage, slipped, "destroy")).status_code == 403
    assert calls.look_up_secret_id(real.mount, real.recipient_id, real.accessor) is not None


def test_a_member_sees_no_alarm_of_an_environment_he_does_not_see(stage: Stage) -> None:
    from accounts.models import Role

    forged("environments", stage.production.pk)
    look()
    bob, page = stage.cast.client("bob"), f"/accounts/{stage.account.code}/kms/"
    assert "can log in as Production" in bob.get(page).content.decode()
    atoms.set_environment_roles(stage.production, [Role.objects.get(name="Support")], actor=stage.alice)
    assert "can log in as" not in bob.get(page).content.decode()
    assert "can log in as Production" in stage.cast.client("alice").get(page).content.decode()
    alarms.request_destruction(the_alarm(), actor=stage.alice)
    assert "Production" not in bob.get(f"/accounts/{stage.account.code}/operations/").content.decode()


def test_administrators_are_told_on_every_page(stage: Stage) -> None:
    forged("environments", stage.production.pk)
    look()
    page = f"/accounts/{stage.account.code}/atoms/"
    assert "1 alarm" in stage.cast.client("alice").get(page).content.decode()
    assert "1 alarm" not in stage.cast.client("bob").get(page).content.decode()
    assert (
        "1 alarm" not in stage.cast.client("charlie").get(f"/accounts/{stage.cast.other.code}/atoms/").content.decode()
    )


def test_the_page_asks_as_many_queries_for_one_alarm_as_for_twenty(
    stage: Stage, django_assert_max_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    alice, page, counted = stage.cast.client("alice"), f"/accounts/{stage.account.code}/kms/", []
    for number in (1, 19):
        for _ in range(number):
            forged("environments", stage.production.pk)
        look()
        with CaptureQueriesContext(connection) as queries:
            alice.get(page, headers={"hx-request": "true"})
        counted.append(len(queries))
    assert counted[0] == counted[1]
