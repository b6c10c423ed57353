"""The API's one shape of error, whatever is sent; and its contract."""

from typing import Any

import pytest
from django.test import Client

from tests.atomapi.test_enrol import API, enrolled
from tests.conftest import HostedVault, Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
REPORT = {"source": "hosted", "verdict": "ok"}


def test_the_contract_is_served(stage: Stage) -> None:
    answer = Client().get(API + "openapi.json")
    assert answer.status_code == 200
    assert len(answer.json()["paths"]) == 13


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": 2**63},
        {"key_version": 2**31},
        {"values": -1},
        {"sealed_at": "0001-01-01T00:00:00+14:00"},
        {"sealed_at": "9999-12-31T23:59:59-14:00"},
        {"sealed_at": "2026-01-01T00:00:00"},
        {"host_name": "evil\x1b[31m"},
        {"host_name": "nul\0"},
        {"sentence": "two\nlines"},
        {"environment": "not an id"},
    ],
)
def test_a_report_out_of_range_is_refused_by_name(
    stage: Stage, hosted_vault: HostedVault, changes: dict[str, Any]
) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    answer = machine.post("report", REPORT | changes, machine.sync)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert next(iter(changes)) in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[1]", b""])
def test_a_body_that_is_no_object_is_a_problem_document(stage: Stage, hosted_vault: HostedVault, body: bytes) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    headers = {"authorization": f"Bearer {machine.sync}"}
    answer = machine.http.post(API + "report", body, content_type="application/json", headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] in ("request_unreadable", "request_invalid")
