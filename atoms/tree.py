"""The left pane: environments with their Atoms, and the unattached ones. Three queries, whatever the size."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.db.models import Prefetch

from accounts.access import AccountRequest
from accounts.privileges import Privilege
from atoms.forms import TreeFilterForm
from atoms.models import Atom, Environment, Node


@dataclass
class Branch:
    """An environment (None: the unattached Atoms) and those of its Atoms that the filter lets through."""

    environment: Environment | None
    atoms: list[Atom] = field(default_factory=list)

    @property
    def states(self) -> list[tuple[str, int]]:
        """How many of its Atoms are in which state, in the order of Atom.Status: [("online", 3), …]."""
        counted = Counter(atom.status() for atom in self.atoms)
        return [(status.label.lower(), counted[status]) for status in Atom.Status if counted[status]]


@dataclass(frozen=True)
class Badge:
    """What the tree says of an Atom beside its name: a short word, its tone, and the sentence behind it."""

    word: str
    tone: str
    sentence: str


@dataclass(frozen=True)
class TreeNote:
    """What a higher room has the tree say of each Atom, and the relations to load for that.

    badge: None where there is nothing to tell. remark: goes into the row's title, "" for none.
    """

    badge: Callable[[Atom], Badge | None]
    remark: Callable[[Atom], str]
    atom_relations: tuple[str, ...]
    node_relations: tuple[str, ...]


_notes: list[TreeNote] = []


def register(note: TreeNote) -> None:
    """Called once, when the room that knows more of an Atom is ready; this room judges nothing."""
    _notes[:] = [note]


def atom_tree(request: AccountRequest, selected: Any = None) -> dict[str, Any]:
    """Context of `_atom_tree.html`: tree_form, branches, unattached, selected (an id), filtered, tree_count,
    tree_query ("?type=ATOM" or ""), tree_new_atom and tree_new_environment (whether to offer them)."""
    form = TreeFilterForm(request.GET, auto_id="tree-%s")
    wanted = form.cleaned_data if form.is_valid() else {}
    text = (wanted.get("q") or "").casefold()
    kind, status = wanted.get("type"), wanted.get("status")
    (note,) = _notes
    enrolled = Node.objects.filter(state=Node.State.ENROLLED).select_related(*note.node_relations)
    atoms = Atom.objects.visible_to(request.membership).with_last_revoked().select_related(*note.atom_relations)
    branches = {env.pk: Branch(env) for env in Environment.objects.visible_to(request.membership)}
    unattached = Branch(None)
    shown = 0
    for atom in atoms.prefetch_related(Prefetch("nodes", enrolled)):
        branch = branches.get(atom.attached_to_id, unattached) if atom.attached_to_id else unattached
        named = text in atom.name.casefold() or (branch.environment and text in branch.environment.name.casefold())
        atom.account = request.account  # one for the whole page: what is loaded of it is loaded once
        atom.badge, atom.remark = note.badge(atom), note.remark(atom)  # type: ignore[attr-defined]
        if named and (not kind or atom.type == kind) and (not status or atom.status() == status):
            branch.atoms.append(atom)
            shown += 1
    filtered = bool(text or kind or status)
    visible = [
        branch
        for branch in branches.values()
        if not filtered or branch.atoms or (text and branch.environment and text in branch.environment.name.casefold())
    ]
    return {
        "tree_form": form,
        "branches": visible,
        "unattached": unattached,
        "selected": str(selected) if selected else "",
        "filtered": filtered,
        "tree_count": shown,
        "tree_query": "?" + urlencode({name: value for name, value in wanted.items() if value}) if filtered else "",
        "tree_new_atom": request.may(Privilege.ATOM_MANAGEMENT),
        "tree_new_environment": request.may(Privilege.ENV_MANAGEMENT),
    }
