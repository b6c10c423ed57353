"""What people and other rooms do with operations: ask for one, end it early, take it up again."""

import uuid
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Account, User
from kmscore.refused import Refused
from operations.models import CURRENT, Operation
from operations.queue import publish_on_commit
from operations.work import is_cancellable, queue_of

RESUMED = (  # columns that resuming writes
    *("state", "run_after", "current_until", "taken_up", "taken_up_until", "cancel_asked_at", "finished_at"),
    *("concluded_at", "troubles", "error_code", "error_sentence"),
)


def request(
    kind: str,
    *,
    account: Account,
    subject_id: uuid.UUID,
    title: str,
    actor: User | None,
    environment_id: uuid.UUID | None = None,
    total: int = 1,
    exclusive_group: str = "",
    run_after: datetime | None = None,
) -> Operation:
    """Write the operation, in the caller's transaction, and wake a worker once that is committed.

    environment_id: of the environment its title tells of, so that members who do not see that one do not see this.
    """
    begins = run_after or timezone.now()
    operation = Operation.objects.create(
        account=account,
        kind=kind,
        subject_id=subject_id,
        environment_id=environment_id,
        title=title[:200],
        requested_by=actor,
        queue=queue_of(kind),
        total=total,
        exclusive_group=exclusive_group,
        run_after=begins,
        current_until=begins + CURRENT,
    )
    publish_on_commit(operation)
    return operation


def is_resumable(operation: Operation) -> bool:
    """Whether it can be taken up again. What cannot be cancelled and ended so was taken back by whoever asked for it."""
    taken_back = operation.state == Operation.State.CANCELLED and not is_cancellable(operation)
    return operation.is_resumable and not taken_back


@transaction.atomic
def cancel(operation: Operation, *, actor: User) -> None:
    """End an operation at its next safe place; one that nobody works on ends at once.

    Raises Refused: operation_ended, not_cancellable.
    """
    found = locked(operation)
    if found.is_finished:
        raise Refused("operation_ended", "It has ended already.")
    if not is_cancellable(found):
        sentence = "Work of this kind is short, or must not stay half done; it cannot be cancelled."
        raise Refused("not_cancellable", sentence)
    if found.cancel_asked_at is not None:
        return
    Operation.objects.filter(pk=found.pk).update(cancel_asked_at=timezone.now(), run_after=timezone.now())
    _audit(found, actor, "CANCEL", f"Cancelling was asked for: {found.title}")
    publish_on_commit(found)


@transaction.atomic
def resume(operation: Operation, *, actor: User) -> None:
    """Take up a failed or cancelled operation where it stopped. Raises Refused: not_resumable; RowTampered."""
    found = locked(operation)
    if not is_resumable(found):
        sentence = "Only what failed or was cancelled can be resumed; what was taken back is asked for again."
        raise Refused("not_resumable", sentence)
    found.state, found.run_after = Operation.State.PENDING, timezone.now()
    found.current_until, found.taken_up = found.run_after + CURRENT, b""
    found.cancel_asked_at = found.finished_at = found.concluded_at = None
    found.troubles, found.error_code, found.error_sentence = 0, "", ""
    found.save(update_fields=RESUMED)
    _audit(found, actor, "RESUME", f"Taken up again: {found.title}")
    publish_on_commit(found)


def locked(operation: Operation) -> Operation:
    """As it stands there by now, until the transaction ends: the very one that was found. Raises RowTampered."""
    rows = Operation.objects.select_for_update(of=("self",), no_key=True).select_related("account")
    return rows.get(pk=operation.pk).verified(pk=operation.pk, account_id=operation.account_id)


def _audit(operation: Operation, actor: User, action: str, message: str) -> None:
    audit.record(
        operation.account,
        actor=actor,
        type="operation",
        action=action,
        subject_id=operation.subject_id,
        message=message,
        properties={"operation": str(operation.pk)},
    )
