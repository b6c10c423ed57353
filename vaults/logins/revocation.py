"""The vault's side of the kill switch: every secret_id of the revoked nodes is destroyed, and proved gone.

Not only those the portal has on record: the vault's own list is searched for any whose metadata names one of the nodes.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import audit
from atoms import revocation
from atoms.models import Atom, Node
from kmscore.vaultclient.mounts import ATOMS, ENVIRONMENTS
from operations.models import Operation
from operations.work import Retry, checkpoint
from vaults.hosted import calls
from vaults.models import SecretId
from vaults.vault_operation import vault_operation

TOKENS_LIVE = timedelta(minutes=5)  # what ENVIRONMENT_ROLE and ATOM_ROLE give a login
Credential = tuple[str, str, str]  # mount, role, accessor


@vault_operation(revocation.KIND, queue=Operation.Queue.WATCH)
def revoke_nodes(operation: Operation) -> None:
    """Destroy every secret_id of these nodes; only of such that are revoked, whatever the row says."""
    asked = [row["id"] for row in operation.details.get("nodes", [])]
    nodes = list(Node.objects.filter(pk__in=asked, state=Node.State.REVOKED).select_related("atom__account"))
    if not nodes:
        return  # the Atom was deleted meanwhile, and with it everything that was issued for it
    rows = SecretId.objects.filter(node__in=nodes)
    rows.filter(superseded_at=None).update(superseded_at=timezone.now())
    known = [(row.mount, str(row.recipient_id), row.accessor) for row in rows]
    _destroy(operation, known)
    unknown = _unknown(nodes, known)
    _destroy(operation, unknown)
    _prove(operation, [*known, *unknown])
    rows.filter(destroyed_at=None).update(destroyed_at=timezone.now())
    _finish(operation, nodes[0].atom, len(known), len(unknown))


def _destroy(operation: Operation, credentials: list[Credential]) -> None:
    for done, (mount, role, accessor) in enumerate(credentials):
        checkpoint(operation, done, max(len(credentials), 1))
        calls.destroy_secret_id(mount, role, accessor)  # the vault has no call for several at once


def _unknown(nodes: list[Node], known: list[Credential]) -> list[Credential]:
    """Those of which only the vault knows that they are these nodes'.

    A secret_id that the portal issued for another Atom is not looked up: an environment may have a thousand of them.
    """
    atom, ids = nodes[0].atom_id, {str(node.pk) for node in nodes}
    roles = {(ATOMS, str(atom)), *((mount, role) for mount, role, _ in known)}
    if nodes[0].atom.attached_to_id is not None:
        roles.add((ENVIRONMENTS, str(nodes[0].atom.attached_to_id)))
    found = [(mount, role, name) for mount, role in roles for name in calls.secret_ids(mount, role)]
    others = _of_other_atoms(atom, [role for _, role in roles])
    return [one for one in found if one[2] not in others and _claimed_node(one) in ids]


def _of_other_atoms(atom: UUID, roles: list[str]) -> set[str]:
    issued = SecretId.objects.filter(recipient_id__in=roles, destroyed_at=None).exclude(atom_id=atom)
    return {row.accessor for row in issued if row.has_valid_signature()}


def _claimed_node(credential: Credential) -> str:
    told: dict[str, Any] = calls.look_up_secret_id(*credential) or {}
    metadata = told.get("metadata")
    return str(metadata.get("node", "")) if isinstance(metadata, dict) else ""


def _prove(operation: Operation, credentials: list[Credential]) -> None:
    for done, credential in enumerate(credentials):
        checkpoint(operation, done, max(len(credentials), 1))
        if calls.look_up_secret_id(*credential) is not None:
            raise Retry("still_there", "The hosted vault still has a credential that was destroyed.")


def _finish(operation: Operation, atom: Atom, known: int, unknown: int) -> None:
    if operation.concluded_at is not None:
        return  # an earlier run came to here
    operation.refresh_from_db(fields=["details"])  # web may have written since when the portal refuses them
    now, asked_at = timezone.now(), revocation.Receipt(operation, None, None).asked_at
    seconds = (now - asked_at).total_seconds()
    with transaction.atomic():
        noted = operation.conclude(
            destroyed_at=now.isoformat(),
            destroyed=known + unknown,
            unknown=unknown,
            tokens_end=(now + TOKENS_LIVE).isoformat(),
        )
        if noted:
            audit.record(
                atom.account,
                actor="watch",
                type="as.atom",
                action="REVOKED",
                subject_id=atom.pk,
                message=f"{known + unknown} vault credentials of {atom.name} destroyed and proved gone "
                f"{seconds:.1f} s after it was asked",
                properties={"operation": str(operation.pk), "unknown": unknown},
            )
