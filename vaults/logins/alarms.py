"""Alarms about unknown logins, which no enrolment explains: whose they are, who sees them, and what people do about them."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.models import Account, User
from accounts.rows import RowTampered, is_uuid
from atoms.models import Atom, Environment
from kmscore.vaultclient.mounts import ENVIRONMENTS
from operations import actions as operations
from operations.models import Operation
from vaults import kms_audit
from vaults.models import LoginAlarm, Recipient

DESTROY = "vaults.destroy_login"


def owner(mount: str, role: str) -> tuple[Account | None, str]:
    """The account whose secrets a role can read, and the role's name for people: by the signed row of its environment or
    Atom, else by what was made in the vault for it; (None, …) for a role that is no account's."""
    if not is_uuid(role):
        return None, "an unknown role"
    model = Environment if mount == ENVIRONMENTS else Atom
    row: Any = model._default_manager.select_related("account").filter(pk=role).first()
    if row is not None and row.has_valid_signature():
        return row.account, row.name
    recipient = Recipient.objects.select_related("account").filter(pk=role).first()
    deleted = "a deleted environment" if mount == ENVIRONMENTS else "a deleted Atom"
    return (recipient.account, deleted) if recipient else (None, "an unknown role")


@transaction.atomic
def request_destruction(alarm: LoginAlarm, *, actor: User) -> Operation:
    """Destroy the secret_id of an alarm at the vault; asked twice, it is the same operation. Raises RowTampered."""
    locked, account = _lock(alarm)
    under_way = Operation.objects.unfinished().about(locked.pk).filter(kind=DESTROY).first()
    if under_way is not None:
        return under_way
    name = owner(locked.mount, locked.role)[1]
    message = f"Asked to destroy a login as {name} that nobody enrolled"
    kms_audit.record(locked, "ALARM_DESTROY", message, actor=actor)
    return operations.request(
        DESTROY,
        account=account,
        subject_id=locked.pk,
        title="Destroy a login that nobody enrolled",  # not whose: members who do not see that environment see this
        actor=actor,
    )


@transaction.atomic
def close(alarm: LoginAlarm, *, note: str, actor: User) -> None:
    """Somebody looked into it; the note is kept in the audit. Raises RowTampered."""
    locked, _ = _lock(alarm)
    if locked.closed_at is not None:
        return
    locked.closed_at, locked.closed_by = timezone.now(), actor
    locked.save(update_fields=["closed_at", "closed_by"])
    state = "destroyed" if locked.destroyed_at else "still there"
    message = f"Alarm about {owner(locked.mount, locked.role)[1]} closed, its login {state}: {note}"
    kms_audit.record(locked, "ALARM_CLOSED", message, actor=actor, note=note)


def destroyed(alarm: LoginAlarm) -> None:
    """The vault has it no more: note it, once, with an audit entry."""
    with transaction.atomic():
        if not LoginAlarm.objects.filter(pk=alarm.pk, destroyed_at=None).update(destroyed_at=timezone.now()):
            return
        if alarm.account is not None:
            message = f"A login as {owner(alarm.mount, alarm.role)[1]} that nobody enrolled was destroyed"
            kms_audit.record(alarm, "ALARM_DESTROYED", message, actor="watch")


def _lock(alarm: LoginAlarm) -> tuple[LoginAlarm, Account]:
    """The row, locked and genuine, and whose it is. Raises RowTampered."""
    rows = LoginAlarm.objects.select_for_update(of=("self",), no_key=True).select_related("account")
    locked = rows.get(pk=alarm.pk).verified()
    if locked.account is None:
        raise RowTampered(f"Reader alarm {alarm.pk} is of no account.")
    return locked, locked.account
