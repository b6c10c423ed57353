"""What the tree says of an Atom's Key Management Service: the state its panel shows (vaults/panel/status.py), in one word.

From the rows the tree has loaded, and from no query of its own.
"""

from atoms.models import Atom, Node
from atoms.tree import Badge, TreeNote, register
from vaults.models import SelfCheckResult
from vaults.panel.settings import settings_of
from vaults.panel.status import status_of

# The other states are told by the Atom's own dot, or are no trouble.
WORDS = {"Switch pending": "Pending", "Failing": "Failing", "Mismatch": "Failing", "Not proved": "Not proved"}


def kms_badge(atom: Atom) -> Badge | None:
    """None for the hosted vault with nothing to tell. Its nodes are the enrolled ones, with report and self-check."""
    status = status_of(atom, atom.attached_to, list(atom.nodes.all()))
    if status.word in WORDS:
        return Badge(WORDS[status.word], status.tone, f"Key Management Service: {status.sentence}")
    settings = settings_of(atom)
    if not settings.is_byov:
        return None
    word, tail = ("Wrapped", ", wrapped") if settings.wrapped else ("BYOV", "")
    return Badge(word, "", f"{settings.get_mode_display()}{tail}")


def last_proved(atom: Atom) -> str:
    """Since when all its containers have proved it, such as "proved after 24 November, 04:30 UTC"; "" when not all did.

    To ten minutes: with a thousand Atoms one of them proves every moment, and the tree would never be the same twice.
    """
    results = [result for node in atom.nodes.all() if (result := _result_here(atom, node))]
    times = [result.proved_at for result in results if result.proved_at is not None]
    if not times or len(times) < len(results):
        return ""
    oldest = min(times)
    return f"proved after {oldest:%-d %B, %H}:{oldest.minute // 10}0 UTC"


def _result_here(atom: Atom, node: Node) -> SelfCheckResult | None:
    """What the node proved of the environment its Atom is attached to."""
    result: SelfCheckResult | None = getattr(node, "selfcheck", None)
    return result if result is not None and result.environment_id == atom.attached_to_id else None


register(TreeNote(kms_badge, last_proved, ("attached_to", "kms_settings"), ("report", "selfcheck")))
