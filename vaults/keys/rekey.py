"""New at-rest data keys: containers are asked at their next sync, seal what they hold under a new one, and report it.

The vault is not called: the container takes its key from the hosted vault or from the customer's, which the portal never
contacts.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts.models import Account, User
from accounts.rows import lock_in_order
from atoms.models import Atom, Node
from kmscore.refused import Refused
from kmscore.wording import plural
from operations import actions as operations
from operations.models import Operation
from operations.work import LeaseLost, ResumeAt, checkpoint, handler
from vaults import kms_audit
from vaults.keys.rotation import NAMES_KEPT
from vaults.models import KmsAccount

KIND = "vaults.rekey"
LOOK_EVERY = timedelta(seconds=15)


def containers_of(atoms: QuerySet[Atom]) -> QuerySet[Node]:
    """The enrolled nodes of these Atoms."""
    return Node.objects.filter(atom__in=atoms, state=Node.State.ENROLLED)


def waiting(nodes: QuerySet[Node]) -> QuerySet[Node]:
    """Those that have not reported the newest request of their Atom yet; those not seen for longest first."""
    asked = nodes.filter(atom__rekey_revision__gt=0)
    unmet = Q(report=None) | Q(report__rekey_revision__lt=F("atom__rekey_revision"))
    return asked.filter(unmet).select_related("atom").order_by(F("last_seen_at").asc(nulls_first=True), "pk")


@transaction.atomic
def request_rekey(account: Account, atoms: Sequence[Atom], *, actor: User) -> Operation:
    """Ask the containers of these Atoms for a new at-rest data key. The same once more, while it is waited for, is that one.

    Raises Refused: kms_inactive, no_containers.
    """
    rows = Atom.objects.filter(account=account, pk__in=[atom.pk for atom in atoms])
    lock_in_order(rows)
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    KmsAccount.refuse_inactive(account)
    nodes = containers_of(rows).count()
    if not nodes:
        raise Refused("no_containers", "No container is enrolled that could take a new key.")
    subject = atoms[0].pk if len(atoms) == 1 else account.pk
    asked_before = account.operations.unfinished().filter(kind=KIND, subject_id=subject, cancel_asked_at=None)
    known = asked_before.first()
    if known is not None:
        return known
    rows.update(rekey_revision=F("rekey_revision") + 1)
    asked = list(rows.order_by("name").values_list("pk", "name", "rekey_revision"))
    what = asked[0][1] if len(asked) == 1 else f"{len(asked)} Atoms"
    operation = operations.request(
        KIND,
        account=account,
        subject_id=subject,
        environment_id=atoms[0].attached_to_id if len(atoms) == 1 else None,
        title=f"New at-rest data keys for {what}",
        actor=actor,
        total=nodes,
    )
    Operation.objects.filter(pk=operation.pk).update(
        details={"wanted": {str(pk): revision for pk, _, revision in asked}}
    )
    message = f"New at-rest data keys asked for: {what}, {plural(nodes, 'container')}"
    names = [name for _, name, _ in asked[:NAMES_KEPT]]
    kms_audit.record(operation, "REKEY", message, actor=actor, count=len(asked), names=names)
    return operation


@handler(KIND, queue=Operation.Queue.BULK, cancellable=True)
def rekey(operation: Operation) -> None:
    """Wait until every enrolled container has reported it; cancelling ends the waiting, not the request."""
    wanted: Mapping[str, int] = operation.details["wanted"]
    columns = ("atom_id", "report__rekey_revision", "last_seen_at", "pk", "host_name", "atom__name")
    nodes = Node.objects.filter(atom__account=operation.account_id, state=Node.State.ENROLLED).values_list(*columns)
    asked = [row for row in nodes.order_by("atom__name", "created_at") if str(row[0]) in wanted]
    left = [row for row in asked if (row[1] or 0) < wanted[str(row[0])]]
    checkpoint(operation, len(asked) - len(left), max(len(asked), 1))
    lines = [_line(*row[2:]) for row in left[:NAMES_KEPT]]
    if operation.details.get("waiting") != lines and not operation.note(waiting=lines):
        raise LeaseLost
    if left:
        offline = sum(1 for row in left if not _is_online(row[2]))
        tail = f" {offline} of them {'is' if offline == 1 else 'are'} offline." if offline else ""
        sentence = f"Waiting for {len(left)} of {plural(len(asked), 'container')}.{tail}"
        raise ResumeAt(timezone.now() + LOOK_EVERY, "containers", sentence)
    _end(operation, len(asked))


def _is_online(seen_at: datetime | None) -> bool:
    return Node(last_seen_at=seen_at).is_online


def _line(seen_at: datetime | None, node: uuid.UUID, host_name: str, atom: str) -> dict[str, str]:
    return {
        "node": str(node),
        "host_name": host_name,
        "atom": atom,
        "last_seen": f"{seen_at:%d %B %Y %H:%M} UTC" if seen_at else "never",
    }


def _end(operation: Operation, containers: int) -> None:
    """The receipt and the audit row, once."""
    if operation.concluded_at is not None:
        return
    message = f"{operation.title}: reported by {plural(containers, 'container')}"
    with transaction.atomic():
        if not operation.conclude(containers=containers):
            raise LeaseLost
        kms_audit.record(operation, "REKEYED", message, actor="portal", containers=containers)
