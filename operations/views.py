"""The account's durable work and how far it is."""

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.fragments import fragment
from accounts.models import Privilege


@require_safe
@account_member(Privilege.ATOM_MANAGEMENT, Privilege.ATOM_MANAGEMENT_READ_ONLY)
def operation_list(request: AccountRequest) -> HttpResponse:
    """Newest first; the fragment is polled while something is unfinished."""
    operations = request.account.operations.visible_to(request.membership).select_related("requested_by")
    page = Paginator(operations, 50).get_page(request.GET.get("page"))
    context = {"section": "operations", "page": page, "unfinished": any(not row.is_finished for row in page)}
    if request.htmx:
        return fragment(request, "operations/_operation_list.html", context)
    return render(request, "operations/operation_list.html", context)
