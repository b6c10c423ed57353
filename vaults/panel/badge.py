"""What the tree says of an Atom's Key Management Service: the state its panel shows, in one word.

From the same rows and by the same rules as the panel (vaults/panel/status.py), and from no query of its own.
"""

from atoms.models import Atom, Node
from atoms.tree import Badge, TreeNote, register
from vaults.models import KmsAccount, SelfCheckResult
from vaults.panel.settings import settings_of
from vaults.panel.status import is_failing, is_mismatched, is_pending
from vaults.selfcheck import SelfCheckLine, selfcheck_line

PREFIX = "Key Management Service"


def kms_badge(atom: Atom) -> Badge | None:
    """None for the hosted vault with nothing to tell. Its nodes are the enrolled ones, with report and proof."""
    trouble = _trouble(atom) if KmsAccount.is_active(atom.account) and atom.provisioned_at else None
    settings = settings_of(atom)
    if trouble is not None or not settings.is_byov:
        return trouble
    word, tail = ("Wrapped", ", wrapped") if settings.wrapped else ("BYOV", "")
    return Badge(word, "", f"{settings.get_mode_display()}{tail}")


def _trouble(atom: Atom) -> Badge | None:
    """The first thing that is not as it should be, in the panel's order."""
    nodes, settings = list(atom.nodes.all()), settings_of(atom)
    reports = [node.report for node in nodes if hasattr(node, "report")]
    if any(is_pending(node, settings) for node in nodes):
        return Badge("Pending", "warn", f"{settings.get_mode_display()}: the switch is pending")
    if any(map(is_failing, reports)):
        return Badge("Failing", "bad", f"{PREFIX}: a container reports a problem")
    tones = {line.tone for line in _selfcheck_lines(atom, nodes)}
    if "bad" in tones:
        return Badge("Failing", "bad", f"{PREFIX}: a container cannot open the portal's test value")
    if atom.environment_id is None or not all(node.is_online for node in nodes):
        return None  # the tree says so by other means
    if any(is_mismatched(report, settings) for report in reports):
        return Badge("Failing", "bad", f"{PREFIX}: a container is not protected as the settings say")
    if "warn" in tones:
        return Badge("Not proved", "warn", f"{PREFIX}: a container has not opened a test value lately")
    return None


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
    return result if result is not None and result.environment_id == atom.environment_id else None


def _selfcheck_lines(atom: Atom, nodes: list[Node]) -> list[SelfCheckLine]:
    return [line for node in nodes if (line := selfcheck_line(node, atom.environment_id))]


register(TreeNote(kms_badge, last_proved, ("kms_settings",), ("report", "selfcheck")))
