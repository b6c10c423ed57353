"""Asking containers for new at-rest data keys: the card of the account's page, and the confirmations."""

from django.contrib import messages
from django.db.models import Min, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.access import AccountRequest, account_member
from accounts.privileges import Privilege
from atoms.models import Atom, Node
from atoms.pages import atom_page, find_atom
from kmscore.refused import Refused
from vaults.keys import rekey
from vaults.models import KmsAccount

SHOWN = 10  # containers that are waited for


def rekey_card(request: AccountRequest) -> dict[str, object]:
    """Of `_account_rekey.html`: a constant number of queries."""
    if getattr(request.account, "kms", None) is None:
        return {}
    nodes = rekey.containers_of(Atom.objects.visible_to(request.membership))
    left = rekey.waiting(nodes)
    return {
        "rekey": {
            "count": nodes.count(),
            "oldest": nodes.aggregate(oldest=Min("report__sealed_at"))["oldest"],
            "unfinished": request.account.operations.unfinished()
            .filter(kind=rekey.KIND)
            .visible_to(request.membership)[:3],
            "left": left.count(),
            "waiting": left[:SHOWN],
        }
    }


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
def rekey_all(request: AccountRequest) -> HttpResponse:
    """Every container of the account."""
    atoms = request.account.atoms.all()
    refusal = _asked(request, atoms) if request.method == "POST" else ""
    if refusal is None:
        return redirect("vaults:kms_account", request.account.code)
    context = {"section": "keys", "refusal": refusal} | _counts(request, atoms)
    return render(request, "vaults/rekey_all.html", context, status=409 if refusal else 200)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
def rekey_atom(request: AccountRequest, atom_id: object) -> HttpResponse:
    """The containers of one Atom."""
    atom = find_atom(request, atom_id)
    atoms = Atom.objects.filter(pk=atom.pk)
    refusal = _asked(request, atoms) if request.method == "POST" else ""
    if refusal is None:
        return redirect("vaults:kms_panel", request.account.code, atom.pk)
    context = atom_page(request, atom, "kms") | {"refusal": refusal} | _counts(request, atoms)
    return render(request, "vaults/rekey_atom.html", context, status=409 if refusal else 200)


def _asked(request: AccountRequest, atoms: QuerySet[Atom]) -> str | None:
    """Ask for it; why it was refused, None when it was not."""
    try:
        rekey.request_rekey(request.account, list(atoms.only("pk")), actor=request.user)
    except Refused as refused:
        return refused.sentence
    messages.success(request, "New at-rest data keys were asked for: each container takes one at its next sync.")
    return None


def _counts(request: AccountRequest, atoms: QuerySet[Atom]) -> dict[str, object]:
    nodes = list(rekey.containers_of(atoms).select_related("atom").order_by("last_seen_at"))
    offline: list[Node] = [node for node in nodes if not node.is_online]
    return {
        "containers": len(nodes),
        "offline": len(offline),
        "offline_nodes": offline[:SHOWN],
        "kms_active": KmsAccount.is_active(request.account),
    }
