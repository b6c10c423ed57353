"""Atom Management: the tree, and the pages of one Atom."""

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import AccountRequest, account_member
from accounts.fragments import fragment
from accounts.post_only import post_only
from accounts.privileges import READ, Privilege
from atoms import actions
from atoms.forms import AtomRenameForm, AttachForm, ConfirmNameForm
from atoms.models import Atom, Node
from atoms.pages import atom_page, find_atom
from atoms.revocation import receipts_of
from atoms.tree import atom_tree
from operations.models import Operation


@require_safe
@account_member(*READ)
def atom_management(request: AccountRequest) -> HttpResponse:
    """The tree, and what to do first."""
    context = {"section": "manage", "can_edit": request.may(Privilege.ATOM_MANAGEMENT), **atom_tree(request)}
    context["can_edit_environments"] = request.may(Privilege.ENV_MANAGEMENT)
    return render(request, "atoms/atom_management.html", context)


@require_safe
@account_member(*READ)
def atom_tree_fragment(request: AccountRequest) -> HttpResponse:
    """The tree alone, for polling."""
    context = {"section": "manage", **atom_tree(request, request.GET.get("selected"))}
    return fragment(request, "atoms/_atom_tree.html", context)


@require_safe
@account_member(*READ)
def atom_detail(request: AccountRequest, atom_id: object) -> HttpResponse:
    """Atom Information."""
    atom = find_atom(request, atom_id)
    context = atom_page(request, atom, "information") | _details(request, atom)
    if request.htmx:
        return fragment(request, "atoms/_atom_detail.html", context)
    return render(request, "atoms/atom_detail.html", context)


def _details(request: AccountRequest, atom: Atom) -> dict[str, object]:
    nodes = atom.nodes.exclude(state=Node.State.REVOKED).select_related("report")
    return {
        "nodes": nodes,
        "status": atom.status(),
        "open_token": atom.installer_tokens.open().first(),
        "receipts": receipts_of(atom),
        "operations": Operation.objects.filter(account=request.account).about(atom.pk).unfinished(),
        "rename_form": AtomRenameForm(instance=atom, account=request.account),
        "attach_form": AttachForm(membership=request.membership, atom=atom),
    }


@post_only("atoms:atom_detail")
@account_member(Privilege.ATOM_MANAGEMENT)
def atom_rename(request: AccountRequest, atom_id: object) -> HttpResponse:
    atom = find_atom(request, atom_id)
    form = AtomRenameForm(request.POST, instance=atom, account=request.account)
    if form.is_valid():
        actions.rename_atom(atom, name=form.cleaned_data["name"], actor=request.user)
        messages.success(request, f"Renamed to {atom.name}.")
        return redirect("atoms:atom_detail", request.account.code, atom.pk)
    typed, atom.name = form["name"].value(), Atom.objects.values_list("name", flat=True).get(pk=atom.pk)
    context = atom_page(request, atom, "information") | _details(request, atom) | {"rename_form": form, "typed": typed}
    return render(request, "atoms/atom_detail.html", context)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_ATTACHMENT)
@reauthentication_required
def atom_attach(request: AccountRequest, atom_id: object) -> HttpResponse:
    """Attach, or move: what this grants, what it takes, and what the containers still hold."""
    atom = find_atom(request, atom_id)
    form = AttachForm(request.POST or None, membership=request.membership, atom=atom)
    if request.method == "POST" and form.is_valid():
        target = form.cleaned_data["environment"]
        actions.attach(atom, target, actor=request.user)
        messages.success(request, f"{atom.name} is attached to {target.name}.")
        return redirect("atoms:atom_detail", request.account.code, atom.pk)
    nodes = atom.nodes.filter(state=Node.State.ENROLLED).select_related("report")
    context = atom_page(request, atom, "information") | {"form": form, "nodes": nodes}
    return render(request, "atoms/atom_attach.html", context)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_ATTACHMENT)
@reauthentication_required
def atom_detach(request: AccountRequest, atom_id: object) -> HttpResponse:
    atom = find_atom(request, atom_id)
    if request.method == "POST":
        actions.detach(atom, actor=request.user)
        messages.success(request, f"{atom.name} is detached.")
        return redirect("atoms:atom_detail", request.account.code, atom.pk)
    nodes = atom.nodes.filter(state=Node.State.ENROLLED).select_related("report")
    return render(request, "atoms/atom_detach.html", atom_page(request, atom, "information") | {"nodes": nodes})


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
@reauthentication_required
def atom_delete(request: AccountRequest, atom_id: object) -> HttpResponse:
    atom = find_atom(request, atom_id)
    form = ConfirmNameForm(request.POST or None, expected=atom.name)
    if request.method == "POST" and form.is_valid():
        actions.delete_atom(atom, actor=request.user)
        messages.success(request, f"{form.expected} is deleted.")
        return redirect("atoms:atom_management", request.account.code)
    nodes = atom.nodes.filter(state=Node.State.ENROLLED).select_related("report")
    context = atom_page(request, atom, "information") | {"form": form, "nodes": nodes}
    return render(request, "atoms/atom_delete.html", context)
