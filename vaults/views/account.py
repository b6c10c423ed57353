"""The Key Management Service of an account: its state, and what can be done to its keys."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.fragments import fragment
from accounts.privileges import READ, Privilege
from atoms.models import Environment
from vaults.models import KmsAccount
from vaults.views.alarms import logins_card
from vaults.views.disable import ending_card
from vaults.views.rekey import rekey_card
from vaults.views.rotation import rotation_card
from vaults.views.selfcheck import selfcheck_card


@require_safe
@account_member(*READ, Privilege.ACCOUNT_ADMIN)
def kms_account(request: AccountRequest) -> HttpResponse:
    """One card for each thing an administrator asks about. Polled; a constant number of queries."""
    context = {"section": "keys"} | account_cards(request)
    if request.htmx:
        return fragment(request, "vaults/_kms_account.html", context)
    return render(request, "vaults/kms_account.html", context)


def account_cards(request: AccountRequest) -> dict[str, object]:
    """Of `_kms_account.html`; each card's own part is made where its rows are."""
    return {
        "kms": getattr(request.account, "kms", None),
        "states": KmsAccount.State,
        "environments": Environment.objects.visible_to(request.membership),
        "may_admin": request.may(Privilege.ACCOUNT_ADMIN),
        "may_manage": request.may(Privilege.ATOM_MANAGEMENT),
        **ending_card(request),
        **logins_card(request),
        **selfcheck_card(request),
        **rotation_card(request),
        **rekey_card(request),
    }
