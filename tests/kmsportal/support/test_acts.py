"""What the support staff can change: the few acts of its pages, and nothing else."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, RateLimit, Session, User
from operations.actions import request
from operations.models import Operation
from operations.work import run
from tests.conftest import Stage, client_of
from tests.kmsportal.support.records import page_of, rows
from vaults.models import KmsAccount

pytestmark = pytest.mark.django_db(transaction=True)


def everything() -> str:
    held = []
    for model in apps.get_models():
        if model._meta.app_label != "account" and model not in (AuditEntry, RateLimit, Session):
            held.append((model._meta.label, sorted(map(str, model._base_manager.values_list()))))
    return hashlib.sha256(repr(held).encode()).hexdigest()


def test_no_post_changes_anything_but_the_acts(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    forms: list[dict[str, Any]] = [{}, {"action": "delete_selected", "_selected_action": "1", "post": "yes"}]
    forms += [{"name": "changed", "_save": "Save", "state": "done", "is_staff": "on"}]
    before = everything()
    for row in rows(scene):
        page = page_of(row)
        for address in (page.list_address(), page.address(row)):
            for form in forms:
                assert sam.post(address, form).status_code == 405, address
            for method in ("put", "patch", "delete"):
                assert getattr(sam, method)(address).status_code == 405
        for word in ("add", "delete", "history", "change", "password"):
            assert sam.post(f"{page.address(row)}{word}/").status_code == 404
            assert sam.post(f"{page.list_address()}{word}/").status_code == 404
    assert everything() == before


def test_kms_is_activated_once_and_told_of(scene: Stage, staff: User) -> None:
    other, sam = scene.cast.other, client_of(staff)
    address = page_of(other).address(other, "activate-kms")
    assert "Activate KMS for 1 account" in sam.get(address).content.decode()
    assert not KmsAccount.objects.filter(account=other).exists()
    assert sam.post(address).status_code == 302
    assert KmsAccount.is_active(type(other).objects.get(pk=other.pk))
    sam.post(address)
    told = other.audit_entries.values_list("type", "action").order_by("seq")
    assert list(told).count(("as.atom.kms", "ACTIVATE")) == 1
    assert list(told).count(("support", "ACT")) == 1
    assert other.audit_entries.get(type="support", action="ACT").actor_id == staff.pk


def test_a_failed_operation_is_retried_and_a_running_one_is_not(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    operation = Operation.objects.first()
    assert operation is not None
    address = page_of(operation).address(operation, "retry")
    Operation.objects.filter(pk=operation.pk).update(state="running", lease_until=timezone.now() + timedelta(minutes=1))
    sam.post(address)
    assert scene.account.audit_entries.filter(type="support", action="ACT").count() == 0
    Operation.objects.filter(pk=operation.pk).update(state="failed", error_code="x", error_sentence="y")
    assert sam.post(address).status_code == 302
    operation.refresh_from_db()
    assert (operation.state, operation.error_code) == ("pending", "")
    assert scene.account.audit_entries.filter(type="support", action="ACT").count() == 1
    assert run(operation.pk)


def test_what_cannot_be_cancelled_is_refused_with_the_reason(scene: Stage, staff: User) -> None:
    operation = request("vaults.provision_atom", account=scene.account, subject_id=scene.atom.pk, title="x", actor=None)
    sam, page = client_of(staff), page_of(operation)
    assert "cannot be cancelled" in sam.get(page.address(operation)).content.decode()
    sam.post(page.address(operation, "cancel"))
    operation.refresh_from_db()
    assert operation.cancel_asked_at is None


def test_an_act_wants_a_recent_sign_in(scene: Stage, staff: User) -> None:
    other, sam = scene.cast.other, client_of(staff)
    address = page_of(other).address(other, "activate-kms")
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=True):
        asked = sam.post(address)
        assert asked.headers["Location"].startswith("/auth/reauthenticate/")
        assert not KmsAccount.objects.filter(account=other).exists()
        assert sam.get(page_of(other).address(other)).status_code == 200  # looking does not


def test_an_act_wants_a_csrf_token(scene: Stage, staff: User) -> None:
    sam = Client(enforce_csrf_checks=True)
    sam.force_login(staff)
    other = scene.cast.other
    assert sam.post(page_of(other).address(other, "activate-kms")).status_code == 403
    assert not KmsAccount.objects.filter(account=other).exists()
