"""The kill switch: cut one machine, or all machines of an Atom, off the portal and the vault, and say how it went.

The portal's side is done when the transaction is: the credentials are gone with it. The vault's side is an operation
(vaults/logins/revocation.py), whose `details` are the receipt:
{"asked_at", "refused_from", "nodes": [{"id", "name", "values", "environment", "revision", "sealed_by", "reported_at"}],
"destroyed_at", "destroyed", "unknown", "tokens_end"}; times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any

from django.db import transaction
from django.db.models import Max, Min, Q
from django.utils import timezone

from accounts import audit
from accounts.models import User
from accounts.rows import RowTampered
from atoms.models import Atom, InstallerToken, Node, NodeCredential, RevokedCredential
from operations import actions as operations
from operations.models import Operation

KIND = "vaults.revoke_nodes"
TOLD_EVERY = timedelta(seconds=10)  # a machine that goes on asking is noted this often
SEALED_BY = {"hosted": "the hosted vault", "byov": "your own vault"}
SHOWN_FOR = timedelta(days=7)


def revoke_node(node: Node, *, actor: User | str) -> Operation:
    """Cut one machine off: its portal credentials are refused at once, its secret_ids destroyed."""
    return _revoke(node.atom, [node], subject=node, what=f"node {node}", actor=actor)


def revoke_all_nodes(atom: Atom, *, actor: User) -> Operation:
    """Cut every machine of an Atom off, and withdraw the installer tokens that were not used yet."""
    nodes = list(atom.nodes.exclude(state=Node.State.REVOKED).select_related("report__environment"))
    many = f"all {len(nodes)} nodes" if len(nodes) != 1 else "its node"
    return _revoke(atom, nodes, subject=atom, what=many, actor=actor, tokens=Q(atom=atom))


def _revoke(
    atom: Atom, nodes: list[Node], *, subject: Atom | Node, what: str, actor: User | str, tokens: Q | None = None
) -> Operation:
    asked_at = timezone.now()
    made: list[Operation] = []
    with transaction.atomic():
        transaction.on_commit(lambda: _refused_from_now(made[0]))  # before a worker is woken
        locked = Atom.objects.select_for_update(no_key=True).get(pk=atom.pk)
        ending = (tokens or Q()) | Q(node__in=nodes)
        if subject == atom:
            locked.revoked_at = asked_at
            locked.save(update_fields=["revoked_at"])
        _forget_token(locked, ending)
        _refuse(nodes, ending)
        operation = operations.request(
            KIND,
            account=atom.account,
            subject_id=subject.pk,
            environment_id=locked.attached_to_id,
            title=f"Destroy the vault credentials of {what} of {atom.name}",
            actor=actor if isinstance(actor, User) else None,
            total=max(len(nodes), 1),
        )
        operation.details = {"asked_at": asked_at.isoformat(), "nodes": [_holding(node) for node in nodes]}
        operation.save(update_fields=["details"])
        made.append(operation)
        audit.record(
            atom.account,
            actor=actor,
            type="as.atom",
            action="REVOKE",
            subject_id=atom.pk,
            message=f"{what[:1].upper()}{what[1:]} of {atom.name} revoked",
            properties={"nodes": [str(node.pk) for node in nodes], "operation": str(operation.pk)},
        )
    return operation


def _forget_token(locked: Atom, ending: Q) -> None:
    """Unless the one that the Atom names is there, and not among those that end: it may be hidden until this is over."""
    named = locked.installer_token
    if named is not None and not InstallerToken.objects.filter(pk=named).exclude(ending).exists():
        locked.installer_token = None
        locked.save(update_fields=["installer_token"])


def _refuse(nodes: list[Node], tokens: Q) -> None:
    """From the commit on the portal knows none of these machines."""
    known = NodeCredential.objects.filter(node__in=nodes)
    hashes = known.values_list("node_id", "token_hash")
    RevokedCredential.objects.bulk_create(RevokedCredential(node_id=pk, token_hash=value) for pk, value in hashes)
    if any(row.has_valid_signature() and row.atom_id != row.node.atom_id for row in known.select_related("node")):
        raise RowTampered("A node was moved to another Atom past the portal.")
    known.delete()
    for node, kind in product(nodes, NodeCredential.Kind.values):
        NodeCredential.end(NodeCredential.id_of(node.pk, kind))
    for token in InstallerToken.objects.filter(tokens, spent_at=None, withdrawn_at=None):
        token.withdrawn_at = timezone.now()
        token.save(update_fields=["withdrawn_at"])
    Node.objects.filter(pk__in=[node.pk for node in nodes]).update(state=Node.State.REVOKED)


def _refused_from_now(operation: Operation) -> None:
    operation.details["refused_from"] = timezone.now().isoformat()
    Operation.objects.filter(pk=operation.pk).update(details=operation.details)


def _holding(node: Node) -> dict[str, Any]:
    """What its store holds by its last report; that stays with whoever has the machine."""
    report = getattr(node, "report", None)
    found: dict[str, Any] = {"id": str(node.pk), "name": str(node)}
    if report is None:
        return found | {"values": None}
    return found | {
        "values": report.values,
        "environment": report.environment.name if report.environment else "",
        "revision": report.revision,
        "sealed_by": SEALED_BY.get(report.source, "") + (", without a plaintext key there" if report.wrapped else ""),
        "reported_at": report.reported_at.isoformat(),
    }


def note_refused(token_hash: bytes) -> None:
    """An unknown credential was shown: note it when it is one that was revoked."""
    found = RevokedCredential.objects.filter(token_hash=token_hash).values_list("last_refused_at", flat=True)
    now = timezone.now()
    if not found or all(last is not None and now - last < TOLD_EVERY for last in found):
        return
    rows = RevokedCredential.objects.filter(token_hash=token_hash)
    rows.filter(refused_at=None).update(refused_at=now)
    rows.update(last_refused_at=now)


# -- receipts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """A revocation and how it went. Seconds count from the click; None for what has not happened yet."""

    operation: Operation
    refused_at: datetime | None  # the first request of one of its nodes afterwards
    last_refused_at: datetime | None

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return [
            row | {"reported_at": _moment(row.get("reported_at"))} for row in self.operation.details.get("nodes", [])
        ]

    @property
    def names(self) -> str:
        return ", ".join(row["name"] for row in self.nodes)

    @property
    def values(self) -> int:
        """What is still in stores, of the node that holds most."""
        return max((row["values"] or 0 for row in self.nodes), default=0)

    @property
    def asked_at(self) -> datetime:
        return self._at("asked_at") or self.operation.requested_at

    @property
    def destroyed_at(self) -> datetime | None:
        return self._at("destroyed_at")

    @property
    def tokens_end(self) -> datetime | None:
        return self._at("tokens_end")

    @property
    def tokens_word(self) -> str:
        return "the last open login ends" if self.tokens_end and self.tokens_end > timezone.now() else "the last ended"

    @property
    def portal_seconds(self) -> float | None:
        """From the click until the portal refused: the credentials are gone with the commit."""
        return self._seconds(self._at("refused_from"))

    @property
    def vault_seconds(self) -> float | None:
        """From the click until the last secret_id was destroyed and proved gone."""
        return self._seconds(self.destroyed_at)

    def _at(self, name: str) -> datetime | None:
        return _moment(self.operation.details.get(name))

    def _seconds(self, at: datetime | None) -> float | None:
        return round((at - self.asked_at).total_seconds(), 2) if at else None


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def receipts_of(atom: Atom, most: int = 3) -> list[Receipt]:
    """The revocations of the last days, newest first; two queries."""
    about = Q(subject_id=atom.pk) | Q(subject_id__in=atom.nodes.values("pk"))
    recent = Operation.objects.filter(about, account=atom.account_id, kind=KIND)
    return _receipts(recent.filter(requested_at__gt=timezone.now() - SHOWN_FOR)[:most], atom)


def receipt_of(atom: Atom, operation_id: Any) -> Receipt | None:
    """One revocation of this Atom, or None."""
    about = Q(subject_id=atom.pk) | Q(subject_id__in=atom.nodes.values("pk"))
    found = Operation.objects.filter(about, account=atom.account_id, kind=KIND, pk=operation_id)
    return next(iter(_receipts(found.select_related("requested_by"), atom)), None)


def _receipts(operations: Iterable[Operation], atom: Atom) -> list[Receipt]:
    rows = list(operations)
    if not rows:
        return []
    refused = RevokedCredential.objects.filter(node__atom=atom).exclude(refused_at=None).order_by()
    times = refused.values_list("node_id").annotate(first=Min("refused_at"), last=Max("last_refused_at"))
    by_node = {str(node): (first, last) for node, first, last in times}
    found = []
    for operation in rows:
        known = [by_node[row["id"]] for row in operation.details.get("nodes", []) if row["id"] in by_node]
        first, last = min((one for one, _ in known), default=None), max((one for _, one in known), default=None)
        found.append(Receipt(operation, first, last))
    return found
