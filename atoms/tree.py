"""The left pane: environments with their Atoms, and the unattached ones. Three queries, whatever the size."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Prefetch
from django.utils import timezone

from accounts.access import AccountRequest
from accounts.models import Privilege
from atoms.forms import TreeFilterForm
from atoms.models import Atom, Environment, Node

SELF_CHECK_LATE = timedelta(minutes=15)  # a container that is online proves every 5 minutes


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
class KmsBadge:
    """What the tree says of an Atom's Key Management Service: a short word, its tone, and the sentence behind it."""

    word: str
    tone: str
    sentence: str


def kms_badge(atom: Atom) -> KmsBadge | None:
    """From the settings and reports that vaults writes; None for the hosted vault with nothing to tell."""
    settings = getattr(atom, "kms_settings", None)
    reports = [node.report for node in atom.nodes.all() if hasattr(node, "report")]
    mode = settings.get_mode_display() if settings else ""
    if settings and any(report.settings_revision < settings.revision for report in reports):
        return KmsBadge("Pending", "warn", f"{mode}: the switch is pending")
    if any(report.verdict not in ("ok", "switch_pending", "detached") for report in reports):
        return KmsBadge("Failing", "bad", "Key Management Service: a container reports a problem")
    if settings and any((one.source, one.wrapped) != (settings.mode, settings.wrapped) for one in reports):
        return KmsBadge("Failing", "bad", "Key Management Service: a container is not protected as the settings say")
    checked = self_check(atom)
    if checked == "failing":
        return KmsBadge("Failing", "bad", "Key Management Service: a container cannot open the portal's test value")
    if checked == "late":
        return KmsBadge("Not proved", "warn", "Key Management Service: a container has not opened a test value lately")
    if not settings or not settings.is_byov:
        return None
    return KmsBadge("Wrapped" if settings.wrapped else "BYOV", "", f"{mode}{', wrapped' if settings.wrapped else ''}")


def self_check(atom: Atom) -> str:
    """What its containers proved of the environment they are in: failing, late, passed, or "" when none ever did."""
    here = _proving(atom)
    if any(node.proof.code for node in here):
        return "failing"
    proved = [(node, node.proof.proved_at) for node in here if node.proof.proved_at]
    late = timezone.now() - SELF_CHECK_LATE
    if any(node.is_online and at is not None and at < late for node, at in proved):
        return "late"
    return "passed" if proved else ""


def last_proved(atom: Atom) -> str:
    """Since when all its containers have proved it, such as "proved after 24 November, 04:30 UTC"; "" when not all did.

    To ten minutes: with a thousand Atoms one of them proves every moment, and the tree would never be the same twice.
    """
    proofs = [node.proof for node in _proving(atom)]
    times = [proof.proved_at for proof in proofs if proof.proved_at is not None]
    if not times or len(times) < len(proofs):
        return ""
    oldest = min(times)
    return f"proved after {oldest:%-d %B, %H}:{oldest.minute // 10}0 UTC"


def _proving(atom: Atom) -> list[Node]:
    attachment = getattr(atom, "attachment", None)
    nodes = [node for node in atom.nodes.all() if hasattr(node, "proof")]
    return [node for node in nodes if attachment and node.proof.environment_id == attachment.environment_id]


def atom_tree(request: AccountRequest, selected: Any = None) -> dict[str, Any]:
    """Context of `_atom_tree.html`: tree_form, branches, unattached, selected (an id), filtered, tree_count,
    tree_query ("?type=ATOM" or ""), tree_new_atom and tree_new_environment (whether to offer them)."""
    form = TreeFilterForm(request.GET, auto_id="tree-%s")
    wanted = form.cleaned_data if form.is_valid() else {}
    text = (wanted.get("q") or "").casefold()
    kind, status = wanted.get("type"), wanted.get("status")
    enrolled = Node.objects.filter(state=Node.State.ENROLLED).select_related("report", "proof")
    atoms = Atom.objects.visible_to(request.membership).select_related("attachment", "kms_settings")
    branches = {env.pk: Branch(env) for env in Environment.objects.visible_to(request.membership)}
    unattached = Branch(None)
    shown = 0
    for atom in atoms.prefetch_related(Prefetch("nodes", enrolled)):
        attachment = getattr(atom, "attachment", None)
        branch = branches.get(attachment.environment_id, unattached) if attachment else unattached
        named = text in atom.name.casefold() or (branch.environment and text in branch.environment.name.casefold())
        atom.last_proved = last_proved(atom)  # type: ignore[attr-defined]
        atom.kms_badge = kms_badge(atom)  # type: ignore[attr-defined]
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
