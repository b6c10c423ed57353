"""The pages of one environment."""

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import AccountRequest, account_member
from accounts.fragments import fragment
from accounts.models import Role
from accounts.post_only import post_only
from accounts.privileges import READ, Privilege
from atoms import actions
from atoms.forms import LOSSES_CHANGED, ConfirmNameForm, EnvironmentForm, EnvironmentRenameForm, EnvironmentRolesForm
from atoms.models import Environment
from atoms.pages import environment_page, find_environment
from atoms.tree import atom_tree
from kmscore.refused import Refused
from operations.models import Operation


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ENV_MANAGEMENT)
def environment_create(request: AccountRequest) -> HttpResponse:
    form = EnvironmentForm(request.POST or None, account=request.account)
    if request.method == "POST" and form.is_valid():
        try:
            environment = actions.create_environment(
                request.account,
                name=form.cleaned_data["name"],
                classification=form.cleaned_data["classification"],
                actor=request.user,
            )
        except Refused as refusal:
            form.add_error(None, refusal.sentence)
        else:
            return redirect("atoms:environment_detail", request.account.code, environment.pk)
    return render(request, "atoms/environment_create.html", {"section": "manage", "form": form, **atom_tree(request)})


@require_safe
@account_member(*READ)
def environment_detail(request: AccountRequest, environment_id: object) -> HttpResponse:
    """Environment Properties."""
    environment = find_environment(request, environment_id)
    context = environment_page(request, environment, "properties") | _details(request, environment)
    if request.htmx:
        return fragment(request, "atoms/_environment_detail.html", context)
    return render(request, "atoms/environment_detail.html", context)


def _details(request: AccountRequest, environment: Environment) -> dict[str, object]:
    initial = {"roles": environment.roles, "seen_by": environment.seen_by}
    return {
        "attached": environment.atoms.with_last_revoked().select_related("attached_by").prefetch_related("nodes"),
        "rename_form": EnvironmentRenameForm(instance=environment, account=request.account),
        "roles_form": EnvironmentRolesForm(roles=_roles(request), initial=initial),
        "operations": Operation.objects.filter(account=request.account).about(environment.pk).unfinished(),
    }


def _roles(request: AccountRequest) -> QuerySet[Role]:
    return Role.objects.filter(Q(account=None) | Q(account=request.account)).order_by("name")


@post_only("atoms:environment_detail")
@account_member(Privilege.ENV_MANAGEMENT)
def environment_rename(request: AccountRequest, environment_id: object) -> HttpResponse:
    environment = find_environment(request, environment_id)
    form = EnvironmentRenameForm(request.POST, instance=environment, account=request.account)
    if form.is_valid():
        actions.rename_environment(environment, name=form.cleaned_data["name"], actor=request.user)
        messages.success(request, f"Renamed to {environment.name}.")
        return redirect("atoms:environment_detail", request.account.code, environment.pk)
    environment.name = Environment.objects.values_list("name", flat=True).get(pk=environment.pk)
    context = (
        environment_page(request, environment, "properties") | _details(request, environment) | {"rename_form": form}
    )
    return render(request, "atoms/environment_detail.html", context)


@post_only("atoms:environment_detail")
@account_member(Privilege.ENV_MANAGEMENT)
def environment_roles(request: AccountRequest, environment_id: object) -> HttpResponse:
    environment = find_environment(request, environment_id)
    form = EnvironmentRolesForm(request.POST, roles=_roles(request))
    changed: dict[str, object] = {}
    if form.is_valid():
        try:
            actions.set_environment_roles(
                environment,
                list(form.cleaned_data["roles"]),
                expected=form.cleaned_data["seen_by"],
                actor=request.user,
            )
        except actions.RolesChanged as stale:
            environment = find_environment(request, environment_id)
            ticked = [role.pk for role in form.cleaned_data["roles"]]
            # The roles as they are stand beside the form now: the next save knows of them.
            initial = {"roles": ticked, "seen_by": environment.seen_by}
            form = EnvironmentRolesForm(roles=_roles(request), initial=initial)
            changed = {"stale": stale, "roles_now": _roles(request).filter(pk__in=environment.roles)}
        else:
            return _roles_saved(request, environment)
    context = environment_page(request, environment, "properties") | _details(request, environment)
    context |= {"roles_form": form} | changed
    return render(request, "atoms/environment_detail.html", context, status=409 if changed else 200)


def _roles_saved(request: AccountRequest, environment: Environment) -> HttpResponse:
    if environment.is_seen_by(request.membership):
        messages.success(request, "Roles with access saved.")
        return redirect("atoms:environment_detail", request.account.code, environment.pk)
    gone = "You have none of them, so you do not see it any more; an Administrator does."
    messages.success(request, f"Roles with access to {environment.name} saved. {gone}")
    return redirect("atoms:atom_management", request.account.code)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ENV_MANAGEMENT)
@reauthentication_required
def environment_delete(request: AccountRequest, environment_id: object) -> HttpResponse:
    environment = find_environment(request, environment_id)
    form = ConfirmNameForm(request.POST or None, expected=environment.name)
    if request.method == "POST" and form.is_valid():
        revision = environment.extensions_revision
        try:
            if form.cleaned_data["lost"] != str(revision):
                raise actions.EnvironmentChanged
            actions.delete_environment(environment, expected_revision=revision, actor=request.user)
        except actions.EnvironmentChanged:
            environment = find_environment(request, environment_id)
            form.add_error(None, LOSSES_CHANGED)
        except actions.EnvironmentInUse as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{form.expected} is deleted.")
            return redirect("atoms:atom_management", request.account.code)
    context = environment_page(request, environment, "properties") | {"form": form, "attached": environment.atoms.all()}
    return render(request, "atoms/environment_delete.html", context)
