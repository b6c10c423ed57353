"""The Key Management Service panel of an Atom."""

from typing import Any

from django.http import HttpResponse, HttpResponseNotModified
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.privileges import READ, Privilege
from atoms.models import Atom
from atoms.pages import atom_page, find_atom
from vaults.models import KmsAccount
from vaults.panel.settings import SETTINGS, file_of, refuse_forged, settings_of
from vaults.panel.status import panel_of


@require_safe
@account_member(*READ)
def kms_panel(request: AccountRequest, atom_id: object) -> HttpResponse:
    """State, settings, what the containers last reported, the path a secret takes. The polled fragment has an ETag."""
    atom = refuse_forged(find_atom(request, atom_id, *SETTINGS))
    if not request.htmx:
        return panel_page(request, atom)
    context = panel_context(request, atom, with_form=False)
    tag = context["panel"].etag()
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    response = render(request, "vaults/_kms_polled.html", context)
    response.headers["ETag"] = tag
    return response


def panel_page(request: AccountRequest, atom: Atom, *, status: int = 200, **more: Any) -> HttpResponse:
    """The whole page; `more` is a refused form's context."""
    context = atom_page(request, atom, "kms") | panel_context(request, atom) | more
    return render(request, "vaults/kms_panel.html", context, status=status)


def panel_context(request: AccountRequest, atom: Atom, *, with_form: bool = True) -> dict[str, Any]:
    """Of state and panel, and of the form."""
    panel = panel_of(atom)
    context = {
        "atom": atom,
        "environment": atom.environment,
        "panel": panel,
        "can_edit": request.may(Privilege.ATOM_MANAGEMENT),
    }
    return context | form_context(request, atom) if with_form else context


def form_context(request: AccountRequest, atom: Atom) -> dict[str, Any]:
    """Of the form: what is stored, and who may change it. Its ETag changes when the form would look different."""
    settings, file = settings_of(atom), file_of(atom)
    can_edit = request.may(Privilege.ATOM_MANAGEMENT)
    active = KmsAccount.is_active(atom.account) and atom.provisioned_at is not None
    tag = f'"{settings.revision}-{file.revision if file else 0}-{can_edit:d}-{active:d}-{atom.type}"'
    return {
        "atom": atom,
        "settings": settings,
        "file": file,
        "can_edit": can_edit,
        "is_cloud": atom.type == Atom.Type.CLOUD,
        "kms_active": active,
        "asked": {"byov": settings.is_byov, "wrapped": settings.wrapped},
        "form_etag": tag,
    }
