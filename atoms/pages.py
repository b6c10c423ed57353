"""What the pages of an Atom and of an environment begin with: who may see it, and what stands around its panel."""

from django.http import Http404
from django.shortcuts import get_object_or_404

from accounts.access import AccountRequest
from accounts.privileges import Privilege
from atoms.models import Atom, Environment
from atoms.tree import atom_tree


def find_atom(request: AccountRequest, atom_id: object, *related: str) -> Atom:
    """An Atom the member sees, with its environment, and with what a higher room keeps beside it (`related`); else 404."""
    visible = Atom.objects.visible_to(request.membership)
    atoms = visible.select_related("attached_to", "account__kms", *related)
    found = get_object_or_404(atoms, pk=atom_id).verified(pk=atom_id, account_id=request.account.pk)
    if found.attached_to is not None and not found.attached_to.verified().is_seen_by(request.membership):
        raise Http404
    request.account = found.account  # the same row, with its KMS: the tree asks for that at every Atom
    return found


def atom_page(request: AccountRequest, atom: Atom, entry: str) -> dict[str, object]:
    """What every page of an Atom shows around its panel: tree, middle menu (`entry` is the current one), breadcrumb."""
    return {
        "section": "manage",
        "atom": atom,
        "environment": atom.environment,
        "entry": entry,
        "can_edit": request.may(Privilege.ATOM_MANAGEMENT),
        "can_attach": request.may(Privilege.ATOM_ATTACHMENT),
        **atom_tree(request, atom.pk),
    }


def find_environment(request: AccountRequest, environment_id: object) -> Environment:
    """An environment the member sees; 404 otherwise."""
    found = get_object_or_404(Environment.objects.visible_to(request.membership), pk=environment_id)
    if not found.verified(pk=environment_id, account_id=request.account.pk).is_seen_by(request.membership):
        raise Http404
    return found


def environment_page(request: AccountRequest, environment: Environment, entry: str) -> dict[str, object]:
    """What every page of an environment shows around its panel."""
    return {
        "section": "manage",
        "environment": environment,
        "entry": entry,
        "can_edit": request.may(Privilege.ENV_MANAGEMENT),
        "may_rotate": request.may(Privilege.ATOM_MANAGEMENT),
        **atom_tree(request, environment.pk),
    }
