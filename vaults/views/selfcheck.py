"""How many containers of an account proved lately that they can open what is sealed for them."""

from dataclasses import dataclass

from accounts.access import AccountRequest
from atoms.models import Atom, Node
from vaults.selfcheck import SelfCheckLine, selfcheck_line, unproved

SHOWN = 20


@dataclass(frozen=True, slots=True)
class SelfCheckSummary:
    """total: enrolled containers of attached Atoms the member sees; lines: the first of those that did not prove."""

    total: int
    missing: int
    lines: list[SelfCheckLine]

    @property
    def proved(self) -> int:
        return self.total - self.missing

    @property
    def more(self) -> int:
        return self.missing - len(self.lines)


def selfcheck_card(request: AccountRequest) -> dict[str, object]:
    """Of `_account_selfcheck.html`; three queries at most, whatever the number of containers."""
    atoms = Atom.objects.visible_to(request.membership).exclude(attached_to=None)
    nodes = Node.objects.filter(atom__in=atoms, state=Node.State.ENROLLED)
    total, found = nodes.count(), unproved(nodes)
    missing = found.count() if total else 0
    rows = found.select_related("selfcheck", "atom")[:SHOWN] if missing else []
    lines = [selfcheck_line(node, node.atom.attached_to_id) for node in rows]
    return {"selfcheck": SelfCheckSummary(total, missing, [line for line in lines if line])}
