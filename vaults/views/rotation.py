"""Rotating in-transit keys: the card of the account's page, the confirmations, the schedule."""

from collections.abc import Mapping

from django import forms
from django.contrib import messages
from django.db.models import F, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.access import AccountRequest, account_member
from accounts.post_only import post_only
from accounts.privileges import Privilege
from atoms.models import Atom, Environment
from atoms.pages import atom_page, environment_page, find_atom, find_environment
from kmscore.refused import Refused
from operations.models import OperationQuerySet
from vaults.keys import rotation
from vaults.models import DataKey, KmsAccount, Recipient
from vaults.models.kms import RecipientQuerySet

SHOWN = 8  # keys in the card, those not rotated for longest first


class ScheduleForm(forms.Form):
    rotate_every = forms.TypedChoiceField(
        label="Rotate all keys by schedule", choices=KmsAccount.Rotation.choices, coerce=int
    )


def rotation_card(request: AccountRequest) -> dict[str, object]:
    """Of `_account_rotation.html`: six queries, however many keys there are."""
    kms = getattr(request.account, "kms", None)
    if kms is None:
        return {}
    recipients = Recipient.objects.visible_to(request.membership)
    return {
        "rotation": {
            "count": recipients.count(),
            "rows": _rows(recipients.order_by(F("rotated_at").asc(nulls_first=True), "provisioned_at")[:SHOWN]),
            "unfinished": _unfinished(request).first(),
            "form": ScheduleForm(initial={"rotate_every": kms.rotate_every}),
            "next": rotation.next_rotation(kms),
        }
    }


def _unfinished(request: AccountRequest) -> OperationQuerySet:
    unfinished = request.account.operations.unfinished().filter(kind=rotation.KIND)
    return unfinished.visible_to(request.membership)


def _rows(recipients: RecipientQuerySet) -> list[tuple[Recipient, str]]:
    """Each with its name."""
    rows = list(recipients)
    names = Recipient.objects.filter(pk__in=[row.pk for row in rows]).names()
    return [(row, names.get(row.pk, "")) for row in rows]


# -- asking for one ----------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
def rotate_all(request: AccountRequest) -> HttpResponse:
    """All in-transit keys of the account."""
    refusal = ""
    if request.method == "POST":
        try:
            rotation.request_rotation_of_all(request.account, actor=request.user)
            messages.success(request, "The rotation was asked for; it goes on when you leave this page.")
            return redirect("vaults:kms_account", request.account.code)
        except Refused as refused:
            refusal = refused.sentence
    context = {"section": "keys"} | _counts(request, request.account.recipients.present())
    return _page(request, "vaults/rotate_all.html", context, refusal)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
def rotate_environment(request: AccountRequest, environment_id: object) -> HttpResponse:
    """The in-transit key of one environment."""
    environment = find_environment(request, environment_id)
    refusal = _asked(request, environment) if request.method == "POST" else ""
    if refusal is None:
        return redirect("atoms:environment_detail", request.account.code, environment.pk)
    recipients = Recipient.objects.filter(pk=environment.pk, account=request.account)
    context = environment_page(request, environment, "properties") | _counts(request, recipients)
    return _page(request, "vaults/rotate_environment.html", context, refusal)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
def rotate_atom(request: AccountRequest, atom_id: object) -> HttpResponse:
    """The in-transit key of one Atom, which protects its Key Management Service settings."""
    atom = find_atom(request, atom_id)
    refusal = _asked(request, atom) if request.method == "POST" else ""
    if refusal is None:
        return redirect("vaults:kms_panel", request.account.code, atom.pk)
    recipients = Recipient.objects.filter(pk=atom.pk, account=request.account)
    context = atom_page(request, atom, "kms") | _counts(request, recipients)
    return _page(request, "vaults/rotate_atom.html", context, refusal)


def _asked(request: AccountRequest, row: Environment | Atom) -> str | None:
    """Ask for it; why it was refused, None when it was not."""
    recipients = list(Recipient.objects.filter(pk=row.pk, account=request.account, shredded_at=None))
    try:
        rotation.request_rotation(request.account, recipients, actor=request.user)
    except Refused as refused:
        return refused.sentence
    messages.success(request, f"The rotation of the in-transit key of {row.name} was asked for.")
    return None


def _counts(request: AccountRequest, recipients: QuerySet[Recipient]) -> dict[str, object]:
    return {
        "keys": recipients.count(),
        "data_keys": DataKey.objects.stored().filter(recipient__in=recipients).count(),
        "kms_active": KmsAccount.is_active(request.account),
    }


def _page(request: AccountRequest, template: str, context: Mapping[str, object], refusal: str | None) -> HttpResponse:
    return render(request, template, {**context, "refusal": refusal}, status=409 if refusal else 200)


@post_only("vaults:kms_account")
@account_member(Privilege.ACCOUNT_ADMIN)
def rotation_schedule(request: AccountRequest) -> HttpResponse:
    form = ScheduleForm(request.POST)
    if form.is_valid():
        try:
            rotation.set_schedule(request.account, form.cleaned_data["rotate_every"], actor=request.user)
            messages.success(request, "The schedule was saved.")
        except Refused as refused:
            messages.error(request, refused.sentence)
    else:
        messages.error(request, "Choose one of the schedules offered; nothing was changed.")
    return redirect("vaults:kms_account", request.account.code)
