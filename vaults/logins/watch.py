"""The login watch: whatever can log in at the vault as a runtime is explained by an enrolment, or raises an alarm.

The vault's own list is compared with the portal's signed rows (DESIGN.md §1, I1): whoever has the credentials of web and
worker together can make a login of their own, and this is how it is found. An alarm destroys nothing by itself: after an
older database was restored, the newest logins of real containers are unknown too.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import Account
from accounts.rows import is_uuid
from atoms.models import Node
from kmscore.vaultclient.answers import VaultError
from kmscore.vaultclient.client import chunks
from kmscore.vaultclient.mounts import ATOMS, ENVIRONMENTS
from operations.models import Operation
from operations.work import periodic
from vaults import kms_audit
from vaults.hosted import calls
from vaults.logins import alarm_mail, alarms
from vaults.models import LoginAlarm, LoginWatch, Recipient, SecretId

log = structlog.get_logger()

EVERY = timedelta(seconds=20)  # so that a login is found within 60 s, whatever else this process does
OWN_SECONDS = 35.0  # and a turn, and the pause: within the same 60 s
PAUSE_SECONDS = 2.0  # a secret_id is issued a moment before its row is written
SETTLED = timedelta(minutes=10)  # by then the operation that destroys a secret_id has done so
ROWS = 500  # accessors in one query
BACK_AFTER = timedelta(minutes=1)  # a scan may have listed it a moment before it was destroyed
CLAIMS = ("atom", "node", "enrolment")  # what the portal writes beside a secret_id


_looked = time.monotonic()  # when this process last came to the end of a scan


def _is_own_turn() -> bool:
    """Whether this process looks whatever the table says of other looks: anybody who writes there could say that."""
    return time.monotonic() - _looked > OWN_SECONDS


@dataclass(frozen=True, slots=True)
class ListedLogin:
    """A secret_id as the vault lists it."""

    mount: str
    role: str
    accessor: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan found: how many roles and secret_ids there are, new alarms, and what was destroyed again."""

    roles: int
    secret_ids: int
    alarms: list[LoginAlarm]
    destroyed: int


@periodic(EVERY.total_seconds(), Operation.Queue.WATCH)
def scan_if_due() -> Scan | None:
    """A scan, unless one is under way or ended a moment ago; of a vault that fails the watch says since when."""
    now = timezone.now()  # what is in the future, nobody wrote who looked
    told = LoginWatch.objects.filter(pk=1, scanned_at__gt=now - EVERY / 2, scanned_at__lte=now).exists()
    if told and not _is_own_turn():
        return None
    try:
        return scan()
    except VaultError as error:
        log.warning("login_watch_failed", code=error.code)
        return None


def scan() -> Scan | None:
    """Compare the vault with the enrolments, raise alarms, send their mail; None while another scan is under way.

    Raises the errors of kmscore.vaultclient.answers; then nothing is known anew, and the watch says since when.
    """
    global _looked
    lease = LoginWatch.take()
    if lease is None and not _is_own_turn():
        return None
    ours = LoginWatch.objects.filter(pk=1, lease=lease)
    try:
        found, counts = _scan()
        changes: dict[str, Any] = {"roles": found.roles, "secret_ids": found.secret_ids, "counts": counts}
        _looked = time.monotonic()
        ours.update(scanned_at=timezone.now(), failed_at=None, error_code="", error_sentence="", **changes)
    except VaultError as error:
        ours.update(
            failed_at=Coalesce("failed_at", timezone.now()),
            error_code=error.code,
            error_sentence=error.sentence[:300],
        )
        raise
    finally:
        ours.update(lease=None, lease_until=None)
        alarm_mail.send_due()
    return found


def _scan() -> tuple[Scan, dict[str, int]]:
    roles = [(mount, role) for mount in (ENVIRONMENTS, ATOMS) for role in calls.roles(mount)]
    listed = [ListedLogin(mount, role, name) for mount, role in roles for name in calls.secret_ids(mount, role)]
    unexplained, over = _judged(listed)
    known = _known_alarms(unexplained)
    new = [login for login in unexplained if login.accessor not in known]
    if new:
        time.sleep(PAUSE_SECONDS)
        new, _ = _judged(new)
    raised = [alarm for alarm in map(_raised, new) if alarm is not None]
    _settle_alarms(listed, {login.accessor for login in unexplained})
    destroyed = _destroy_again(over)
    return Scan(len(roles), len(listed), raised, destroyed), _counts(listed)


# -- judging ------------------------------------------------------------------------------------------------------------


def _judged(listed: list[ListedLogin]) -> tuple[list[ListedLogin], list[SecretId]]:
    """Those that nothing explains, and the rows of those that should be gone."""
    unexplained, over = list[ListedLogin](), list[SecretId]()
    for part in chunks(listed, ROWS):
        names = [login.accessor for login in part]
        rows = SecretId.objects.filter(accessor__in=names).select_related("enrolment__node")
        by_accessor = {row.accessor: row for row in rows}
        for login in part:
            row = by_accessor.get(login.accessor)
            if row is None or not _explains(row, login):
                unexplained.append(login)
            elif _is_over(row):
                over.append(row)
    return unexplained, over


def _explains(row: SecretId, login: ListedLogin) -> bool:
    """Whether the portal issued it for this very role, on an enrolment that holds (or whose node was deleted since)."""
    enrolment = row.enrolment
    if not row.has_valid_signature() or (row.mount, str(row.recipient_id)) != (login.mount, login.role):
        return False
    return enrolment is None or (enrolment.is_valid() and enrolment.atom_id == row.atom_id)


def _is_over(row: SecretId) -> bool:
    """Whether it was destroyed, or should have been long ago: the vault has it still, or again after a restore."""
    node = row.enrolment.node if row.enrolment else None
    since = row.destroyed_at or row.superseded_at
    if since is None and node is not None and node.state == Node.State.REVOKED:
        since = row.issued_at  # handed out while it was being revoked, by a process that died before it took it back
    return since is not None and since < timezone.now() - SETTLED


def _known_alarms(unexplained: Iterable[ListedLogin]) -> set[str]:
    """The accessors that an alarm was raised for. A row that is not the portal's own is none."""
    names = [login.accessor for login in unexplained]
    rows = [row for part in chunks(names, ROWS) for row in LoginAlarm.objects.filter(accessor__in=part)]
    return {row.accessor for row in rows if row.has_valid_signature()}


def _counts(listed: list[ListedLogin]) -> dict[str, int]:
    """How many secret_ids each account has at the vault."""
    by_role = Counter(login.role for login in listed)
    found = Counter[str]()
    for part in chunks([role for role in by_role if is_uuid(role)], ROWS):
        for pk, account in Recipient.objects.filter(pk__in=part).values_list("pk", "account_id"):
            found[account.hex] += by_role[str(pk)]
    return dict(found)


# -- alarms -------------------------------------------------------------------------------------------------------------


def _raised(login: ListedLogin) -> LoginAlarm | None:
    """The alarm; None when it could not be told of now, which keeps nobody from hearing of the others."""
    try:
        return _raise_alarm(login)
    except VaultError:
        raise
    except Exception as error:
        log.error("login_alarm_failed", mount=login.mount, role=login.role[:64], error=type(error).__name__)
        return None


def _raise_alarm(login: ListedLogin) -> LoginAlarm:
    """Its row and its audit entry; mail follows, and is sent again by the next scan if this process dies."""
    told = calls.look_up_secret_id(login.mount, login.role, login.accessor)
    account, name = alarms.owner(login.mount, login.role)
    alarm = LoginAlarm(
        account=account,
        mount=login.mount,
        role=login.role[:64],
        accessor=login.accessor[:64],
        metadata=claims_of(told),
        issued_at=made_at(told),
        destroyed_at=timezone.now() if told is None else None,
    )
    with transaction.atomic():
        LoginAlarm.objects.filter(accessor=alarm.accessor).delete()  # a forged one
        alarm.save(force_insert=True)
        if account is not None:
            message = f"Somebody can log in at the hosted vault as {name}, and nobody enrolled it"
            kms_audit.record(alarm, "ALARM", message, actor="login watch")
    log.error("login_alarm", mount=login.mount, account=account.code if account else None, alarm=str(alarm.pk))
    return alarm


def _settle_alarms(listed: list[ListedLogin], unexplained: set[str]) -> None:
    """Alarms whose secret_id is gone say so; those that an enrolment explains by now are closed."""
    present = {login.accessor for login in listed}
    for alarm in LoginAlarm.objects.filter(closed_at=None, destroyed_at=None).select_related("account"):
        if alarm.accessor not in present:
            alarms.destroyed(alarm)
        elif alarm.accessor not in unexplained and alarm.has_valid_signature():
            _close_explained(alarm)
    back = LoginAlarm.objects.filter(destroyed_at__lt=timezone.now() - BACK_AFTER, accessor__in=unexplained & present)
    for alarm in back.select_related("account"):
        _raise_again(alarm)


def _raise_again(alarm: LoginAlarm) -> None:
    """It was destroyed, and the vault has it again: an older snapshot was put back, or the row was written past the portal."""
    with transaction.atomic():
        alarm.destroyed_at = alarm.closed_at = alarm.closed_by = alarm.mailed_at = None
        alarm.found_at = timezone.now()
        alarm.save()
        if alarm.account is not None:
            message = "A login nobody enrolled that was destroyed is there again"
            kms_audit.record(alarm, "ALARM", message, actor="login watch")
    log.error("login_alarm", mount=alarm.mount, alarm=str(alarm.pk))


def _close_explained(alarm: LoginAlarm) -> None:
    with transaction.atomic():
        alarm.closed_at = timezone.now()
        alarm.save(update_fields=["closed_at"])
        if alarm.account is not None:
            message = "A login nobody seemed to have enrolled is explained by an enrolment now"
            kms_audit.record(alarm, "ALARM_CLOSED", message, actor="login watch")


def claims_of(told: dict[str, Any] | None) -> dict[str, str]:
    """What its metadata says of it. Whoever made it wrote that, so only what has our form is kept."""
    metadata = (told or {}).get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    return {name: str(found[name]) for name in CLAIMS if is_uuid(found.get(name))}


def made_at(told: dict[str, Any] | None) -> datetime | None:
    try:
        return datetime.fromisoformat(str((told or {})["creation_time"]))
    except (KeyError, ValueError):
        return None


# -- what should be gone ------------------------------------------------------------------------------------------------


def _destroy_again(over: list[SecretId]) -> int:
    """Destroy what the portal took back and the vault has all the same; a restored vault has many of them."""
    for account, rows in _by_account(over):
        for row in rows:
            calls.destroy_secret_id(row.mount, row.recipient_id, row.accessor)  # no call does several at once
        now, ids = timezone.now(), [row.pk for row in rows]
        with transaction.atomic():
            SecretId.objects.filter(pk__in=ids).update(destroyed_at=now, superseded_at=Coalesce("superseded_at", now))
            if account is not None:
                message = (
                    f"The hosted vault still had {len(rows)} logins that were taken back; they were destroyed again"
                )
                atoms = sorted({str(row.atom_id) for row in rows})[:20]
                kms_audit.record(account, "DESTROY", message, actor="login watch", Atoms=atoms)
    return len(over)


def _by_account(rows: list[SecretId]) -> Iterator[tuple[Account | None, list[SecretId]]]:
    found: dict[UUID, Account] = {}
    for part in chunks(list({row.recipient_id for row in rows}), ROWS):
        recipients = Recipient.objects.filter(pk__in=part).select_related("account")
        found |= {recipient.pk: recipient.account for recipient in recipients}
    grouped: dict[Account | None, list[SecretId]] = {}
    for row in rows:
        grouped.setdefault(found.get(row.recipient_id), []).append(row)
    yield from (
        (account, part[at : at + ROWS]) for account, part in grouped.items() for at in range(0, len(part), ROWS)
    )
