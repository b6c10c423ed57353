"""Requests of work: run only when genuine and current, whatever stands in the table; on commit 4cd7d59 any row was done."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import models
from django.utils import timezone

from accounts import signing
from accounts.keyring import LIST_FILE, development_key, development_list, write_signing_keys
from accounts.rows import RowTampered
from kmscore.sealed.key_list import sign_key_list
from operations import actions, work
from operations.models import CURRENT, Operation
from operations.work import handler
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
done: list[str] = []


@handler("tests.noted", cancellable=True)
def noted(operation: Operation) -> None:
    done.append(operation.title)


@handler("tests.waits", cancellable=True)
def waits(operation: Operation) -> None:
    done.append(operation.title)
    raise work.ResumeAt(timezone.now() + timedelta(days=2), "later", "Later.")


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def asked(cast: Cast, title: str = "asked", kind: str = "tests.noted", **more: Any) -> Operation:
    return actions.request(
        kind, account=cast.account, subject_id=cast.account.pk, title=title, actor=cast.alice, **more
    )


def ended(operation: Operation) -> tuple[str, str]:
    operation.refresh_from_db()
    return operation.state, operation.error_code


def test_what_was_asked_for_is_done(cast: Cast) -> None:
    operation = asked(cast)
    assert work.run(operation.pk)
    assert (done, ended(operation)) == (["asked"], ("done", ""))


@pytest.mark.parametrize(
    "written",
    [
        {"subject_id": "0f6c2b9e-0000-4000-8000-000000000001"},
        {"kind": "tests.waits"},
        {"account": "other"},
        {"requested_by": None},
        {"queue": "shred"},
        {"current_until": timezone.now() + timedelta(days=300)},
        {"signature": b"\0" * 72},
    ],
    ids=lambda written: next(iter(written)),
)
def test_what_was_changed_is_not_done(cast: Cast, written: dict[str, Any]) -> None:
    operation = asked(cast)
    change = {"account": cast.other} if written == {"account": "other"} else written
    Operation.objects.filter(pk=operation.pk).update(**change)
    work.run(operation.pk)
    assert (done, ended(operation)) == ([], ("failed", "record_forged"))
    with pytest.raises(RowTampered):
        actions.resume(Operation.objects.get(pk=operation.pk), actor=cast.alice)


def test_a_row_slipped_into_the_table_is_not_done(cast: Cast) -> None:
    forged = Operation(
        account=cast.account,
        kind="tests.noted",
        title="forged",
        subject_id=cast.account.pk,
        requested_by=cast.alice,
        requested_at=timezone.now(),
        current_until=timezone.now() + CURRENT,
        signature=b"\0" * 72,
    )
    models.Model.save_base(forged, raw=True, force_insert=True)
    work.run(forged.pk)
    assert (done, ended(forged)) == ([], ("failed", "record_forged"))


def test_a_worker_asks_for_nothing_in_a_persons_name(cast: Cast, tmp_path: Path) -> None:
    (tmp_path / LIST_FILE).write_text(sign_key_list(development_key("root"), development_list()))
    write_signing_keys(tmp_path / "signing-keys", [("worker", development_key("worker"))])
    signing.use_directories([tmp_path])
    try:
        in_its_own = actions.request(
            "tests.noted", account=cast.account, subject_id=cast.account.pk, title="its own", actor=None
        )
        forged = asked(cast, "in Alice's name")
    finally:
        signing.use_directories([])
    work.run(in_its_own.pk)
    work.run(forged.pk)
    assert (done, ended(forged)) == (["its own"], ("failed", "record_forged"))


def test_a_request_of_an_earlier_day_is_none_any_more(cast: Cast) -> None:
    operation = asked(cast)
    with time_machine.travel(timezone.now() + CURRENT + timedelta(minutes=1)):
        work.run(operation.pk)
        assert (done, ended(operation)) == ([], ("failed", "request_ended"))
        actions.resume(Operation.objects.get(pk=operation.pk), actor=cast.alice)
        assert work.run(operation.pk), "Resume asks anew"
    assert done == ["asked"]


def test_a_finished_one_put_back_a_day_later_is_not_done_again(cast: Cast) -> None:
    operation = asked(cast)
    before = Operation.objects.values().get(pk=operation.pk)
    work.run(operation.pk)
    with time_machine.travel(timezone.now() + CURRENT + timedelta(minutes=1)):
        Operation.objects.filter(pk=operation.pk).update(**before)
        work.run(operation.pk)
    assert done == ["asked"]


def test_what_was_taken_up_in_time_goes_on_for_as_long_as_it_takes(cast: Cast) -> None:
    operation = asked(cast, kind="tests.waits")
    work.run(operation.pk)
    with time_machine.travel(timezone.now() + timedelta(days=2, hours=1)):
        assert work.run(operation.pk)
    with time_machine.travel(timezone.now() + timedelta(days=10)):
        work.run(operation.pk)
    assert (done, ended(operation)) == (["asked", "asked"], ("failed", "request_ended")), "nobody was there for days"


def test_what_has_its_time_later_is_current_then(cast: Cast) -> None:
    later = timezone.now() + timedelta(days=30)
    operation = asked(cast, run_after=later)
    with time_machine.travel(later + timedelta(hours=1)):
        assert work.run(operation.pk)
    assert done == ["asked"]


def test_one_that_is_refused_keeps_no_other_from_being_done(cast: Cast) -> None:
    forged, genuine = asked(cast, "forged"), asked(cast, "genuine")
    Operation.objects.filter(pk=forged.pk).update(kind="tests.none")
    work.sweep()
    assert (done, ended(genuine)) == (["genuine"], ("done", ""))
