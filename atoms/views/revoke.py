"""Cutting machines off: one node, all nodes of an Atom, and the receipt of it."""

from allauth.account.decorators import reauthentication_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import AccountRequest, account_member
from accounts.fragments import fragment
from accounts.privileges import READ, Privilege
from atoms import revocation
from atoms.models import Node
from atoms.pages import atom_page, find_atom


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
@reauthentication_required
def node_revoke(request: AccountRequest, atom_id: object, node_id: object) -> HttpResponse:
    """Cut one machine off."""
    atom = find_atom(request, atom_id)
    live = atom.nodes.exclude(state=Node.State.REVOKED).select_related("report__environment")
    node = get_object_or_404(live, pk=node_id)
    if request.method == "POST":
        operation = revocation.revoke_node(node, actor=request.user)
        return redirect("atoms:revocation", request.account.code, atom.pk, operation.pk)
    return render(request, "atoms/node_revoke.html", atom_page(request, atom, "information") | {"node": node})


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
@reauthentication_required
def atom_revoke(request: AccountRequest, atom_id: object) -> HttpResponse:
    """Cut all machines of an Atom off."""
    atom = find_atom(request, atom_id)
    nodes = list(atom.nodes.exclude(state=Node.State.REVOKED).select_related("report__environment"))
    if request.method == "POST" and nodes:
        operation = revocation.revoke_all_nodes(atom, actor=request.user)
        return redirect("atoms:revocation", request.account.code, atom.pk, operation.pk)
    holding = [node.report.values for node in nodes if hasattr(node, "report")]
    context = {
        "nodes": nodes,
        "online": sum(node.is_online for node in nodes),
        "values": max(holding, default=0),
        "tokens": atom.installer_tokens.open().count(),
    }
    return render(request, "atoms/atom_revoke.html", atom_page(request, atom, "information") | context)


@require_safe
@account_member(*READ)
def revocation_receipt(request: AccountRequest, atom_id: object, operation_id: object) -> HttpResponse:
    """How a revocation goes, and what it came to. Polled."""
    atom = find_atom(request, atom_id)
    receipt = revocation.receipt_of(atom, operation_id)
    if receipt is None:
        raise Http404("No such revocation.")
    context = atom_page(request, atom, "information") | {"receipt": receipt}
    if request.htmx:
        return fragment(request, "atoms/_revocation.html", context)
    return render(request, "atoms/revocation.html", context)
