"""The Key Management Service panel of an Atom."""

from django.http import HttpResponse, HttpResponseNotModified
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.models import Privilege
from atoms.views.atom import READ, atom_page, find_atom
from vaults.panel import panel_of


@require_safe
@account_member(*READ)
def kms_panel(request: AccountRequest, atom_id: object) -> HttpResponse:
    """Hosted mode: state, keys, what the container last reported, the path a secret takes. The fragment has an ETag."""
    atom = find_atom(request, atom_id)
    panel = panel_of(atom)
    if not request.htmx:
        return render(request, "vaults/kms_panel.html", atom_page(request, atom, "kms") | {"panel": panel})
    tag = panel.etag()
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    can_edit = request.may(Privilege.ATOM_MANAGEMENT)
    context = {"atom": atom, "environment": atom.environment, "panel": panel, "can_edit": can_edit}
    response = render(request, "vaults/_kms_panel.html", context)
    response.headers["ETag"] = tag
    return response
