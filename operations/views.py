"""The account's durable work: how far it is, ending it early, taking it up again, and its receipt."""

import orjson
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.fragments import fragment
from accounts.post_only import post_only
from accounts.privileges import READ, Privilege
from kmscore.refused import Refused
from operations import actions
from operations.models import Operation
from operations.receipts import receipt_of
from operations.work import is_cancellable, is_for_administrators


@require_safe
@account_member(*READ)
def operation_list(request: AccountRequest) -> HttpResponse:
    """Newest first; the fragment is polled while something is unfinished."""
    operations = request.account.operations.visible_to(request.membership).select_related("requested_by")
    page = Paginator(operations, 50).get_page(request.GET.get("page"))
    context = {"section": "operations", "page": page, "unfinished": any(not row.is_finished for row in page)}
    if request.htmx:
        return fragment(request, "operations/_operation_list.html", context)
    return render(request, "operations/operation_list.html", context)


@require_safe
@account_member(*READ)
def operation_detail(request: AccountRequest, operation_id: object) -> HttpResponse:
    """One of them, polled until it has ended."""
    operation = _find(request, operation_id)
    details = operation.details if _sees_all_of(request, operation) else {}
    context = {
        "section": "operations",
        "operation": operation,
        "can_download": operation.is_finished and _sees_all_of(request, operation),
        "facts": sorted((name, value) for name, value in details.items() if not isinstance(value, dict | list)),
        "lists": [_table(name, value) for name, value in sorted(details.items()) if isinstance(value, list) and value],
        "can_cancel": _may_change(request, operation) and is_cancellable(operation),
        "can_resume": _may_change(request, operation) and actions.is_resumable(operation),
    }
    if request.htmx:
        return fragment(request, "operations/_operation_detail.html", context)
    return render(request, "operations/operation_detail.html", context)


@require_safe
@account_member(*READ)
def operation_receipt(request: AccountRequest, operation_id: object) -> HttpResponse:
    """What was asked, by whom, and what came of it, to keep."""
    operation = _find(request, operation_id)
    if not operation.is_finished:
        raise Http404("It has not ended.")
    if not _sees_all_of(request, operation):
        raise PermissionDenied("This receipt names environments of the whole account: it is for its Administrators.")
    content = orjson.dumps(receipt_of(operation), option=orjson.OPT_INDENT_2)
    response = HttpResponse(content, content_type="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="receipt-{operation.pk}.json"'
    return response


@post_only("operations:operation_detail")
@account_member(Privilege.ATOM_MANAGEMENT)
def operation_cancel(request: AccountRequest, operation_id: object) -> HttpResponse:
    operation = _changeable(request, operation_id)
    try:
        actions.cancel(operation, actor=request.user)
        messages.success(request, "It ends at its next safe place.")
    except Refused as refusal:
        messages.error(request, refusal.sentence)
    return redirect("operations:operation_detail", request.account.code, operation.pk)


@post_only("operations:operation_detail")
@account_member(Privilege.ATOM_MANAGEMENT)
def operation_resume(request: AccountRequest, operation_id: object) -> HttpResponse:
    operation = _changeable(request, operation_id)
    try:
        actions.resume(operation, actor=request.user)
        messages.success(request, "It is taken up where it stopped.")
    except Refused as refusal:
        messages.error(request, refusal.sentence)
    return redirect("operations:operation_detail", request.account.code, operation.pk)


def _find(request: AccountRequest, operation_id: object) -> Operation:
    visible = request.account.operations.visible_to(request.membership).select_related("requested_by", "account")
    found: Operation = get_object_or_404(visible, pk=operation_id)
    return found


def _changeable(request: AccountRequest, operation_id: object) -> Operation:
    operation = _find(request, operation_id)
    if not _may_change(request, operation):
        raise PermissionDenied("What concerns the whole account is its Administrators' to end and to resume.")
    return operation


def _sees_all_of(request: AccountRequest, operation: Operation) -> bool:
    """What concerns the whole account names environments that not every member sees."""
    return operation.subject_id != request.account.pk or request.may(Privilege.ACCOUNT_ADMIN)


def _may_change(request: AccountRequest, operation: Operation) -> bool:
    if is_for_administrators(operation) and not request.may(Privilege.ACCOUNT_ADMIN):
        return False
    return request.may(Privilege.ATOM_MANAGEMENT) and _sees_all_of(request, operation)


def _table(name: str, rows: list[object]) -> dict[str, object]:
    """Name, columns and rows of cells; a list of plain texts has no columns."""
    first = rows[0]
    if not isinstance(first, dict):
        return {"name": name, "columns": [], "rows": [[row] for row in rows]}
    columns = list(first)
    cells = [[row.get(column) for column in columns] for row in rows if isinstance(row, dict)]
    return {"name": name, "columns": columns, "rows": cells}
