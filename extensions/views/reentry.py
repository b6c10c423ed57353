"""The re-entry worklist."""

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.privileges import READ, Privilege
from extensions import reentry

PER_PAGE = 100


@require_safe
@account_member(*READ)
def reentry_list(request: AccountRequest) -> HttpResponse:
    """By environment and connection: each value that is lost, whose it is, and the field to enter it in."""
    page = Paginator(reentry.needed(request.membership), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "section": "keys",
        "page": page,
        "rows": reentry.with_setters(page.object_list),
        "progress": reentry.progress(request.membership),
        "atoms": list(reentry.atoms_to_save(request.membership)),
        "can_edit": request.may(Privilege.ATOM_MANAGEMENT),
    }
    return render(request, "extensions/reentry_list.html", context)
