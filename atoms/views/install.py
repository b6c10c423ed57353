"""Bringing a runtime to a container: a new Atom, its installer token, the lines to run, the wheel."""

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import AccountRequest, account_member
from accounts.fragments import fragment
from accounts.post_only import post_only
from accounts.privileges import READ, Privilege
from atoms import actions, shown_token, wheel
from atoms.forms import AtomForm, InstallerTokenForm
from atoms.models import Atom, Node
from atoms.pages import atom_page, find_atom
from atoms.tree import atom_tree
from kmscore.refused import Refused


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
@reauthentication_required
def atom_create(request: AccountRequest) -> HttpResponse:
    """A new Atom, attached or not, and its first installer token unless that shall wait."""
    may_attach = request.may(Privilege.ATOM_ATTACHMENT)
    initial = {"environment": request.GET.get("environment")}
    form = AtomForm(request.POST or None, initial=initial, membership=request.membership, may_attach=may_attach)
    if request.method == "POST" and form.is_valid():
        wanted = form.cleaned_data
        try:
            atom = actions.create_atom(
                request.account,
                name=wanted["name"],
                type=wanted["type"],
                environment=wanted.get("environment"),
                actor=request.user,
            )
        except Refused as refusal:
            form.add_error(None, refusal.sentence)
        else:
            return _created(request, atom, wanted["minutes"])
    context = {"section": "manage", "form": form, **atom_tree(request)}
    return render(request, "atoms/atom_create.html", context)


def _created(request: AccountRequest, atom: Atom, minutes: int) -> HttpResponse:
    response = redirect("atoms:atom_install", request.account.code, atom.pk)
    if minutes and _is_kms_active(atom):
        shown_token.keep(request, response, *actions.create_installer_token(atom, minutes=minutes, actor=request.user))
    return response


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ATOM_MANAGEMENT)
@reauthentication_required
def atom_install(request: AccountRequest, atom_id: object) -> HttpResponse:
    """Make an installer token for one node, and show it for a while (atoms/shown_token.py)."""
    atom = _find_atom(request, atom_id)
    form = InstallerTokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = actions.create_installer_token(atom, minutes=form.cleaned_data["minutes"], actor=request.user)
        except actions.NoFreeNode as error:
            form.add_error(None, str(error))
        else:
            response = redirect("atoms:atom_install", request.account.code, atom.pk)
            shown_token.keep(request, response, *made)
            return response
    return _installation(request, atom, form)


def _find_atom(request: AccountRequest, atom_id: object) -> Atom:
    atom = find_atom(request, atom_id)
    if atom.environment is not None and not request.may(Privilege.ATOM_ATTACHMENT):
        # A machine that enrols here reads what the environment holds: that grant is the attachment's.
        raise PermissionDenied("Bringing a machine to an attached Atom needs the privilege Atom Attachment.")
    return atom


@post_only("atoms:atom_install")
@account_member(Privilege.ATOM_MANAGEMENT)
def token_withdraw(request: AccountRequest, atom_id: object) -> HttpResponse:
    """End the open installer token, whoever made it and wherever."""
    atom = _find_atom(request, atom_id)
    if actions.withdraw_open_tokens(atom, actor=request.user):
        messages.success(request, "The installer token is withdrawn: no machine enrols with it.")
    else:
        messages.warning(request, "No installer token was open any more: it was used, withdrawn or had expired.")
    return redirect("atoms:atom_install", request.account.code, atom.pk)


def _installation(request: AccountRequest, atom: Atom, form: InstallerTokenForm) -> HttpResponse:
    """The Installation page, with the token when it was made a moment ago."""
    nodes = atom.nodes.exclude(state=Node.State.REVOKED)
    open_token = atom.installer_tokens.open().first()
    token = shown_token.shown(request, open_token)
    context = atom_page(request, atom, "installation") | {
        "form": form,
        "nodes": nodes,
        "has_node": any(node.state == Node.State.ENROLLED for node in nodes),
        "kms_active": _is_kms_active(atom),
        "open_token": open_token,
        "token": token,
        "token_shown_until": open_token.created_at + shown_token.SHOWN_FOR if open_token else None,
        "lines": _lines(request, atom),
    }
    response = render(request, "atoms/atom_install.html", context)
    if not token:
        shown_token.forget(request, response, atom)
    return response


def _is_kms_active(atom: Atom) -> bool:
    return getattr(getattr(atom.account, "kms", None), "state", "") == "active"


@require_safe
@account_member(*READ)
def atom_nodes(request: AccountRequest, atom_id: object) -> HttpResponse:
    """Who has enrolled so far: polled beside the token, so it asks for no second sign-in.

    `?token=` names the row of the token on the page: once it is spent, withdrawn or expired, it is taken off the page.
    """
    atom = find_atom(request, atom_id)
    nodes, open_token = atom.nodes.exclude(state=Node.State.REVOKED), atom.installer_tokens.open().first()
    watched = request.GET.get("token", "")
    is_open = open_token is not None and watched == str(open_token.pk)
    context = {
        "atom": atom,
        "nodes": nodes,
        "has_node": any(node.state == Node.State.ENROLLED for node in nodes),
        "watched": open_token if is_open else None,
        "token_gone": bool(watched) and not is_open,
    }
    return fragment(request, "atoms/_atom_nodes.html", context)


def _lines(request: HttpRequest, atom: Atom) -> dict[str, str] | None:
    """The exact lines for the container; None while no wheel was built."""
    built = wheel.newest()
    if built is None:
        return None
    portal = settings.PORTAL_URL or f"{request.scheme}://{request.get_host()}"
    name = f"kms-{atom.pk.hex[:8]}"
    address = portal + reverse("atoms:runtime_wheel", args=[built.name])
    return {
        "install": f"python3 -m venv {name}\n{name}/bin/pip install '{address}#sha256={built.sha256}'",
        "enrol": f"{name}/bin/kms-runtime enrol --dir {name}-store --portal {portal} --vault {settings.VAULT_PUBLIC_ADDR}",
        "run": f"{name}/bin/kms-runtime run --dir {name}-store",
        "sha256": built.sha256,
        "wheel": built.name,
        "wheel_url": address,
    }


@require_safe
@login_not_required
def runtime_wheel(request: HttpRequest, name: str) -> HttpResponseBase:
    """The runtime's wheel. Open to everybody: a container has no login yet, and the program is no secret."""
    built = wheel.newest()
    if built is None or built.name != name:
        raise Http404("No such wheel.")
    response = FileResponse(built.path.open("rb"), content_type="application/octet-stream")
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
