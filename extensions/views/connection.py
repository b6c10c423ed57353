"""Build: the connections of an account and their fields."""

import uuid
from copy import copy

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import AccountRequest, account_member
from accounts.privileges import Privilege
from atoms.forms import LOSSES_CHANGED, ConfirmNameForm
from atoms.models import Environment
from extensions.connections import (
    Consent,
    StaleConnection,
    ValuesWouldBeLost,
    delete_connection,
    losses_with,
    save_connection,
)
from extensions.forms import ConnectionForm, FieldFormSetBase, field_formset
from extensions.models import Connection
from kmscore.refused import Refused


@require_safe
@account_member(Privilege.BUILD)
def connection_list(request: AccountRequest) -> HttpResponse:
    connections = request.account.connections.prefetch_related("fields").annotate(
        encrypted_count=Count("fields", filter=Q(fields__encrypted=True))
    )
    connections = connections.order_by("name")  # counting drops the model's own order
    return render(request, "extensions/connection_list.html", {"section": "build", "connections": connections})


@require_http_methods(["GET", "POST"])
@account_member(Privilege.BUILD)
def connection_create(request: AccountRequest) -> HttpResponse:
    return _connection_edit(request, None)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.BUILD)
def connection_edit(request: AccountRequest, connection_id: object) -> HttpResponse:
    return _connection_edit(request, get_object_or_404(request.account.connections, pk=connection_id))


def _connection_edit(request: AccountRequest, connection: Connection | None) -> HttpResponse:
    # The form writes what was typed into its own copy.
    form = ConnectionForm(request.POST or None, instance=copy(connection), account=request.account)
    formset = field_formset(request.POST or None, connection)
    context = {"section": "build", "form": form, "formset": formset, "connection": connection}
    if request.method == "POST" and form.is_valid() and formset.is_valid():
        try:
            _save(request, connection, form, formset)
        except StaleConnection as stale:
            context["stale"] = stale
            return render(request, "extensions/connection_edit.html", context, status=409)
        except ValuesWouldBeLost as question:
            context["question"] = question
        except Refused as refusal:
            form.add_error(None, f"Nothing was saved. {refusal.sentence}")
        else:
            messages.success(request, f"Connection {form.cleaned_data['name']} is saved.")
            return redirect("extensions:connection_list", request.account.code)
    return render(request, "extensions/connection_edit.html", context)


def _save(
    request: AccountRequest, connection: Connection | None, form: ConnectionForm, formset: FieldFormSetBase
) -> None:
    save_connection(
        request.account,
        connection,
        name=form.cleaned_data["name"],
        fields=formset.specs(),
        deleted=formset.deleted(),
        expected_version=form.cleaned_data["version"],
        consent=Consent(form.cleaned_data["confirmed"], _reach(request)),
        actor=request.user,
    )


def _reach(request: AccountRequest) -> frozenset[uuid.UUID] | None:
    """The environments in which the member may delete values by way of a connection; None for all."""
    if request.may(Privilege.ACCOUNT_ADMIN):
        return None
    return frozenset(Environment.objects.visible_to(request.membership).values_list("pk", flat=True))


@require_http_methods(["GET", "POST"])
@account_member(Privilege.BUILD)
@reauthentication_required
def connection_delete(request: AccountRequest, connection_id: object) -> HttpResponse:
    connection = get_object_or_404(request.account.connections, pk=connection_id)
    form = ConfirmNameForm(request.POST or None, expected=connection.name)
    reach = _reach(request)
    if request.method == "POST" and form.is_valid():
        try:
            delete_connection(connection, consent=Consent(form.cleaned_data["lost"], reach), actor=request.user)
        except ValuesWouldBeLost:
            form.add_error(None, LOSSES_CHANGED)
        except Refused as refusal:
            form.add_error(None, f"Nothing was deleted. {refusal.sentence}")
        else:
            messages.success(request, f"Connection {form.expected} is deleted.")
            return redirect("extensions:connection_list", request.account.code)
    losses = losses_with(connection)
    seen = losses.within(reach)
    context = {
        "section": "build",
        "form": form,
        "connection": connection,
        "losses": seen,
        "held": seen.count,
        "hidden": seen != losses,
    }
    return render(request, "extensions/connection_delete.html", context)
