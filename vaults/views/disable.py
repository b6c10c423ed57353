"""Disabling the Key Management Service, taking that back, shredding, and the certificate of it."""

from datetime import timedelta
from typing import Any

import orjson
from allauth.account.decorators import reauthentication_required
from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from accounts import audit
from accounts.access import AccountRequest, account_member
from accounts.post_only import post_only
from accounts.privileges import Privilege
from kmscore.refused import Refused
from operations.models import Operation
from vaults.keys import disable, shred
from vaults.keys.disable import GRACE_DAYS
from vaults.keys.losses import lost_values
from vaults.models import KmsAccount, ShredCertificate


class TypedCodeForm(forms.Form):
    """Typed confirmation: the account's code."""

    code = forms.CharField(max_length=80, strip=True)

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected
        self.fields["code"].label = f"Type {expected} to confirm"
        self.fields["code"].widget.attrs |= {"autocomplete": "off", "spellcheck": "false"}

    def clean_code(self) -> str:
        if self.cleaned_data["code"] != self.expected:
            raise ValidationError(f"This is not the account's code. Type {self.expected} exactly.")
        return self.expected


class DisableForm(TypedCodeForm):
    days = forms.IntegerField(
        label="Days until the keys are shredded",
        initial=GRACE_DAYS[1],
        min_value=GRACE_DAYS[0],
        max_value=GRACE_DAYS[-1],
        help_text="7 to 90. Until then you can take it back, and nothing has to be entered again.",
    )


def ending_card(request: AccountRequest) -> dict[str, object]:
    """Of `_account_state.html` and `_account_end.html`: at most four queries."""
    account = request.account
    kms = getattr(account, "kms", None)
    if kms is None:
        return {"certificates": []}
    kinds = ("vaults.disable", "vaults.enable", disable.SHRED)
    latest = account.operations.filter(kind__in=kinds).exclude(state=Operation.State.CANCELLED)[:1]
    work = [row for row in latest if not row.is_finished or row.state == Operation.State.FAILED]
    operation = next((row for row in work if row.kind == disable.SHRED), None)
    approved = list(operation.shred_approvals.select_related("user")) if operation else []
    return {
        "ending_work": work,
        "shred": operation,
        "approvals": approved,
        "approved_by_me": any(row.user_id == request.user.pk for row in approved),
        "certificates": list(account.shred_certificates.only("pk", "made_at")),
        "now": timezone.now(),
        "lost_values": lost_values(account),
    }


def _page(request: AccountRequest, template: str, status: int = 200, **context: object) -> HttpResponse:
    kms = getattr(request.account, "kms", None)
    shown = {
        "section": "keys",
        "kms": kms,
        "states": KmsAccount.State,
        "inventory": disable.inventory_of(request.account),
    }
    return render(request, template, shown | context, status=status)


def _back(request: AccountRequest) -> HttpResponse:
    return redirect("vaults:kms_account", request.account.code)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
@reauthentication_required
def kms_disable(request: AccountRequest) -> HttpResponse:
    """What disabling takes away, what it keeps, and until when."""
    form = DisableForm(request.POST or None, expected=request.account.code)
    if request.method == "POST" and form.is_valid():
        try:
            kms = disable.disable_kms(request.account, days=form.cleaned_data["days"], actor=request.user)
        except Refused as refusal:
            messages.error(request, refusal.sentence)
            return _back(request)
        messages.success(request, f"Disabled. Until {kms.ends_at:%-d %B %Y} you can take it back.")
        return _back(request)
    usual = timezone.now() + timedelta(days=GRACE_DAYS[1])
    return _page(request, "vaults/kms_disable.html", 422 if form.errors else 200, form=form, usual=usual)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
@reauthentication_required
def kms_enable(request: AccountRequest) -> HttpResponse:
    """Undo; and after shredding, begin anew."""
    if request.method == "POST":
        kms = getattr(request.account, "kms", None)
        again = kms is not None and kms.state == KmsAccount.State.SHREDDED
        try:
            if again:
                disable.activate_again(request.account, actor=request.user)
                messages.success(request, "Activated with new keys. What was shredded has to be entered again.")
            else:
                disable.enable_kms(request.account, actor=request.user)
                messages.success(request, "Enabled again. Containers fetch new credentials at their next contact.")
        except Refused as refusal:
            messages.error(request, refusal.sentence)
        return _back(request)
    return _page(request, "vaults/kms_enable.html")


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
@reauthentication_required
def kms_shred(request: AccountRequest) -> HttpResponse:
    """Ask for it before the grace period ends."""
    form = TypedCodeForm(request.POST or None, expected=request.account.code)
    if request.method == "POST" and form.is_valid():
        try:
            shred.request_shred(request.account, actor=request.user)
            messages.success(request, "Asked for. Nothing is destroyed before a second administrator has approved it.")
        except Refused as refusal:
            messages.error(request, refusal.sentence)
        return _back(request)
    status = 422 if form.errors else 200
    return _page(request, "vaults/kms_shred.html", status, form=form, retention=settings.BACKUP_RETENTION_DAYS)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
@reauthentication_required
def kms_shred_approve(request: AccountRequest) -> HttpResponse:
    """The second administrator's page."""
    operation = (
        request.account.operations.unfinished().filter(kind=disable.SHRED).select_related("requested_by").first()
    )
    form = TypedCodeForm(request.POST or None, expected=request.account.code)
    if operation is not None and request.method == "POST" and form.is_valid():
        try:
            shred.approve_shred(operation, actor=request.user)
            messages.success(request, "Approved. The keys are being destroyed.")
        except Refused as refusal:
            messages.error(request, refusal.sentence)
        return _back(request)
    mine = operation is not None and operation.shred_approvals.filter(user=request.user).exists()
    context = {"form": form, "shred": operation, "mine": mine, "retention": settings.BACKUP_RETENTION_DAYS}
    return _page(request, "vaults/kms_shred_approve.html", 422 if form.errors else 200, **context)


@post_only("vaults:kms_account")
@account_member(Privilege.ACCOUNT_ADMIN)
def kms_shred_withdraw(request: AccountRequest) -> HttpResponse:
    try:
        shred.withdraw_shred(request.account, actor=request.user)
        messages.success(request, "Taken back. The grace period goes on.")
    except Refused as refusal:
        messages.error(request, refusal.sentence)
    return _back(request)


@require_safe
@account_member(Privilege.ACCOUNT_ADMIN)
def shred_certificate(request: AccountRequest, certificate_id: object) -> HttpResponse:
    """The certificate for people, and with `?download` as a file."""
    certificate = get_object_or_404(ShredCertificate, pk=certificate_id, account=request.account)
    if "download" in request.GET:
        content = certificate.document | {"signature": bytes(certificate.signature).hex()}
        response = HttpResponse(orjson.dumps(content, option=orjson.OPT_INDENT_2), content_type="application/json")
        name = f"shred-certificate-{request.account.code}-{certificate.made_at:%Y-%m-%d}.json"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response
    seq = certificate.document["audit"]["seq"]
    context = {
        "certificate": certificate,
        "document": certificate.document,
        "genuine": certificate.has_valid_signature(),
        "audit_holds": audit.fingerprint(request.account, seq) == certificate.document["audit"]["fingerprint"],
    }
    return _page(request, "vaults/shred_certificate.html", **context)
