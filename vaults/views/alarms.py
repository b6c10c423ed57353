"""Unknown logins, which nobody enrolled: the card on the account's page, and what an administrator does about one."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from allauth.account.decorators import reauthentication_required
from django import forms
from django.contrib import messages
from django.db.models.fields.json import KT
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from accounts.access import AccountRequest, account_member
from accounts.models import Account
from accounts.privileges import Privilege
from accounts.rows import is_uuid
from atoms.models import Atom, Environment, Node
from kmscore.vaultclient.mounts import ENVIRONMENTS
from operations.models import Operation
from vaults.logins import alarms
from vaults.models import LoginAlarm, LoginWatch

LATE = timedelta(seconds=60)  # a scan that is older has missed its promise
SHOWN = 50  # alarms on one page
TOKENS = timedelta(minutes=5)  # how long a login that is open goes on


class CloseForm(forms.Form):
    note = forms.CharField(
        label="What it is",
        max_length=200,
        help_text="Kept in the audit log, for whoever asks later. For example: a container of ours, after last night's restore.",
    )


@dataclass(frozen=True, slots=True)
class AlarmLine:
    """An alarm in words; `operation` is the one that destroys it, newest, or None."""

    alarm: LoginAlarm
    name: str
    claims: str
    operation: Operation | None

    @property
    def is_environment(self) -> bool:
        return self.alarm.mount == ENVIRONMENTS

    @property
    def tokens_end(self) -> datetime | None:
        return self.alarm.destroyed_at + TOKENS if self.alarm.destroyed_at else None


@dataclass(frozen=True, slots=True)
class WatchState:
    """How fresh the watch is: `count` logins of this account were compared at `scanned_at`."""

    scanned_at: datetime | None
    count: int
    is_late: bool
    sentence: str  # why the last scan failed, "" when it did not


def logins_card(request: AccountRequest) -> dict[str, object]:
    """Of `_account_logins.html`; two queries, and four more while there are alarms."""
    return {
        "watch": _watch(request.account),
        "alarm_lines": alarm_lines(
            request.account, visible_alarms(request), claims=request.may(Privilege.ACCOUNT_ADMIN)
        ),
    }


def visible_alarms(request: AccountRequest) -> list[LoginAlarm]:
    """The open ones; of an Administrator also those about what was deleted."""
    rows = LoginAlarm.objects.open()
    if request.may(Privilege.ACCOUNT_ADMIN):
        return list(rows.filter(account=request.account)[:SHOWN])
    return list(rows.visible_to(request.membership)[:SHOWN])


def _watch(account: Account) -> WatchState:
    rows = LoginWatch.objects.filter(pk=1).annotate(own=KT(f"counts__{account.pk.hex}"))
    row = rows.values_list("scanned_at", "own", "failed_at", "error_sentence").first()
    scanned_at, own, failed_at, sentence = row or (None, None, None, "")
    late = scanned_at is None or timezone.now() - scanned_at > LATE
    return WatchState(scanned_at, int(own or 0), late, sentence if failed_at else "")


def alarm_lines(account: Account, rows: list[LoginAlarm], *, claims: bool) -> list[AlarmLine]:
    """The alarms with the names of what they are about; a constant number of queries.

    claims: whether to tell what they claim to be, which may name what not every member sees.
    """
    if not rows:
        return []
    told = [{"role": row.role} | row.metadata for row in rows]
    wanted = {value for found in told for value in found.values() if is_uuid(value)}
    names: dict[str, str] = {}
    for model in (Environment, Atom):
        found = model._default_manager.filter(account=account, pk__in=wanted).values_list("pk", "name")
        names |= {str(pk): name for pk, name in found}
    nodes = {str(node.pk): str(node) for node in Node.objects.filter(atom__account=account, pk__in=wanted)}
    asked = Operation.objects.filter(kind=alarms.DESTROY, subject_id__in=[row.pk for row in rows])
    by_alarm = {operation.subject_id: operation for operation in asked.order_by("requested_at")}
    return [
        AlarmLine(row, _name(row, names), _claims(row, names, nodes) if claims else "", by_alarm.get(row.pk))
        for row in rows
    ]


def _name(row: LoginAlarm, names: dict[str, str]) -> str:
    deleted = "a deleted environment" if row.mount == ENVIRONMENTS else "a deleted Atom"
    return names.get(row.role, deleted)


def _claims(row: LoginAlarm, names: dict[str, str], nodes: dict[str, str]) -> str:
    """What whoever made it wrote beside it; it proves nothing."""
    atom, node = row.metadata.get("atom", ""), row.metadata.get("node", "")
    if not atom and not node:
        return "It claims to be no container at all."
    who = names.get(atom, "an Atom that is not here")
    return f"It claims to be of {who}, node {nodes.get(node, 'unknown')}. Whoever made it wrote that."


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
@reauthentication_required
def login_alarm_destroy(request: AccountRequest, alarm_id: object) -> HttpResponse:
    """Destroy a login that nobody enrolled."""
    alarm = _find(request, alarm_id)
    if request.method == "POST":
        alarms.request_destruction(alarm, actor=request.user)
        messages.success(request, "The login is being destroyed.")
        return redirect("vaults:kms_account", request.account.code)
    return render(request, "vaults/login_alarm_destroy.html", _context(request, alarm))


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
@reauthentication_required
def login_alarm_close(request: AccountRequest, alarm_id: object) -> HttpResponse:
    """Close an alarm: somebody knows what it is."""
    alarm = _find(request, alarm_id)
    form = CloseForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        alarms.close(alarm, note=" ".join(form.cleaned_data["note"].split()), actor=request.user)
        messages.success(request, "The alarm is closed.")
        return redirect("vaults:kms_account", request.account.code)
    return render(request, "vaults/login_alarm_close.html", _context(request, alarm) | {"form": form})


def _find(request: AccountRequest, alarm_id: object) -> LoginAlarm:
    """Raises RowTampered for a row that was written past the portal."""
    return get_object_or_404(LoginAlarm, pk=alarm_id, account=request.account, closed_at=None).verified(
        pk=alarm_id, account_id=request.account.pk
    )


def _context(request: AccountRequest, alarm: LoginAlarm) -> dict[str, object]:
    return {"section": "keys", "line": alarm_lines(request.account, [alarm], claims=True)[0]}
