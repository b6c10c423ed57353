"""What a worker does for a rotation: a new version of each key, every wrapped data key rewrapped, earlier versions refused.

Wrapped data keys go from the vault through this process back to the vault and nowhere else. Each step is written down in a
row, and the state of a row only ever goes on, so another worker may take up the work at any of them.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Max, Q, QuerySet, Sum
from django.db.models.functions import Greatest
from django.utils import timezone

from accounts.rows import is_uuid
from kmscore.vaultclient.answers import VaultRefused
from kmscore.wording import plural
from operations.models import Operation
from operations.work import Failed, LeaseLost, ResumeAt, checkpoint
from vaults import kms_audit
from vaults.hosted import calls, documents
from vaults.keys.rotation import KIND, NAMES_KEPT
from vaults.models import DataKey, KmsAccount, Recipient, RecipientRotation
from vaults.vault_operation import vault_operation

State = RecipientRotation.State
WRITE_SECONDS = 0.25  # seconds
AGAIN_SECONDS = 60  # after a late one was found: a runtime that has just read the old one has opened it by then


@vault_operation(KIND, queue=Operation.Queue.BULK, cancellable=True)
def rotate(operation: Operation) -> None:
    """Rotate, rewrap, wait until saves in flight have ended, read again, refuse earlier versions."""
    _refuse_shredded(operation)
    if not operation.error_code:  # it begins, or somebody resumed it: what failed is tried once more
        operation.rotations.filter(state=State.FAILED).update(state=State.PENDING)
    progress = RotationProgress(operation)
    for rotation in _those(operation, State.PENDING):
        _rotate_and_rewrap(rotation, progress)
    while rewrapped := _those(operation, State.REWRAPPED):
        progress.write()
        _wait_for_saves_in_flight(rewrapped)
        for rotation in rewrapped:
            _read_again(rotation, progress)
    progress.write()
    _end(operation)


def _refuse_shredded(operation: Operation) -> None:
    kms = KmsAccount.objects.filter(account=operation.account_id).first()
    if kms is None or kms.verified().state == KmsAccount.State.SHREDDED:
        raise Failed("kms_shredded", "The account's keys were destroyed meanwhile: there is nothing to rotate.")


def _those(operation: Operation, state: str) -> list[RecipientRotation]:
    """The parts in this state, but for those of recipients that were shredded or deleted meanwhile."""
    there = operation.rotations.filter(recipient__in=operation.account.recipients.present())
    return list(there.filter(state=state).select_related("recipient"))


class RotationProgress:
    """How far the operation is, in data keys: of the recipients that are done, and of the one at hand."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        rotations = operation.rotations.filter(recipient__in=operation.account.recipients.present())
        keys = DataKey.objects.stored().filter(recipient__in=rotations.values("recipient"))
        self._keys: Counter[object] = Counter(dict(keys.values_list("recipient").annotate(Count("pk")).order_by()))
        self._total = max(sum(self._keys.values()), 1)
        begun = rotations.exclude(state=State.PENDING)
        self._done = sum(self._keys[pk] for pk in begun.values_list("recipient", flat=True))
        self._failed: int = begun.aggregate(broken=Sum("broken"))["broken"] or 0
        self._seen = self._broken = 0  # of the recipient at hand
        self._written = 0.0

    def keys_of(self, recipient: Recipient) -> int:
        return self._keys[recipient.pk]

    def saw(self, seen: int, broken: int) -> None:
        """Of the recipient at hand: entries of its documents that are done with, and those that are broken.

        Raises what `checkpoint` raises.
        """
        self._seen, self._broken = seen, broken
        self._checkpoint()

    def passed(self, recipient: Recipient, broken: int) -> None:
        """The recipient at hand is done. Raises what `checkpoint` raises."""
        self._done += self._keys[recipient.pk]
        self.add_failed(broken)

    def add_failed(self, broken: int) -> None:
        self._failed += broken
        self.saw(0, 0)

    def write(self) -> None:
        """As it stands; whether to go on is not asked. Raises LeaseLost."""
        if not self._operation.progress(*self._counts()):
            raise LeaseLost

    def _checkpoint(self) -> None:
        """Between two batches, unless the last time is a moment ago."""
        if time.monotonic() - self._written < WRITE_SECONDS:
            return
        done, total, failed = self._counts()
        checkpoint(self._operation, done, total, failed=failed)
        self._written = time.monotonic()

    def _counts(self) -> tuple[int, int, int]:
        return min(self._done + self._seen, self._total), self._total, self._failed + self._broken


# -- the first reading -------------------------------------------------------------------------------------------------


def _rotate_and_rewrap(rotation: RecipientRotation, progress: RotationProgress) -> None:
    try:
        _add_version(rotation)
    except VaultRefused as refusal:
        if refusal.status != 404:
            raise
        broken = max(progress.keys_of(rotation.recipient), 1)
        _move(rotation, State.PENDING, state=State.FAILED, broken=broken)
        progress.passed(rotation.recipient, broken)
        return
    found = _rewrap(rotation, progress)
    with transaction.atomic():
        renewed = _note_versions(rotation, found)
        settle_at = timezone.now() + timedelta(seconds=settings.ROTATION_SETTLE_SECONDS)
        state = State.FAILED if found.count else State.REWRAPPED
        changes = {"state": state, "broken": found.count, "settle_at": settle_at}
        _move(rotation, State.PENDING, rewrapped=F("rewrapped") + renewed, **changes)
    progress.passed(rotation.recipient, found.count)


def _add_version(rotation: RecipientRotation) -> None:
    """A new version of the key, once: which one it had is on record before it gets another."""
    versions = calls.key_versions(rotation.recipient)
    if rotation.from_version is None:
        _move(rotation, State.PENDING, from_version=versions.latest)
    latest = versions.latest
    if latest == rotation.from_version:
        calls.rotate_key(rotation.recipient)
        latest += 1
    if rotation.to_version != latest:
        with transaction.atomic():
            _move(rotation, State.PENDING, to_version=latest)
            Recipient.objects.filter(pk=rotation.recipient_id).update(
                in_transit_version=latest, rotated_at=timezone.now()
            )


@dataclass(frozen=True, slots=True)
class Broken:
    """The data keys the vault could not rewrap, by the number of their document."""

    ids: dict[int, list[str]]

    @property
    def count(self) -> int:
        return sum(map(len, self.ids.values()))


def _rewrap(rotation: RecipientRotation, progress: RotationProgress, *, late: bool = False) -> Broken:
    """Read every document once and rewrap what an earlier version wrapped. late: of the second reading.

    A late one is on record before it is rewrapped: whoever goes on after a crash would not see it any more.
    """
    recipient, version = rotation.recipient, rotation.to_version or 0
    seen, found = 0, Broken({})
    for number, entries in documents.read_all(recipient, _last_document(recipient.pk)):
        old = documents.older_than(entries, version)
        seen += len(entries) - len(old)
        for batch in documents.batches(old):
            if late:
                again = timedelta(seconds=min(AGAIN_SECONDS, settings.ROTATION_SETTLE_SECONDS))
                _move(rotation, State.REWRAPPED, late=F("late") + len(batch), settle_at=timezone.now() + again)
            broken = documents.rewrap(recipient, number, batch, progress.write)
            if broken:
                found.ids.setdefault(number, []).extend(broken)
            seen += len(batch)
            progress.saw(0 if late else seen, found.count)
    return found


def _last_document(recipient: uuid.UUID) -> int:
    """The highest number that is known of; saves go on meanwhile, so it is asked for anew each time."""
    row = Recipient.objects.annotate(highest=Max("data_keys__document")).get(pk=recipient)
    return max(row.next_document(), row.highest or 0)


def _note_versions(rotation: RecipientRotation, found: Broken) -> int:
    """Write down which version wraps the data keys now: one UPDATE, and one for each document with broken ones."""
    keys = DataKey.objects.stored().filter(recipient=rotation.recipient_id, key_version__lt=rotation.to_version)
    noted = keys.exclude(document__in=list(found.ids)).update(key_version=rotation.to_version)
    for number, ids in found.ids.items():
        damaged = keys.filter(document=number).exclude(pk__in=[key for key in ids if is_uuid(key)])
        noted += damaged.update(key_version=rotation.to_version)
    return noted


# -- the second reading ------------------------------------------------------------------------------------------------


def _wait_for_saves_in_flight(rewrapped: Iterable[RecipientRotation]) -> None:
    until = max(rotation.settle_at for rotation in rewrapped if rotation.settle_at)
    if until > timezone.now():
        raise ResumeAt(
            until,
            "saves_in_flight",
            f"Rewrapped. At {until:%H:%M} UTC every document is read again, then earlier versions are refused.",
        )


def _read_again(rotation: RecipientRotation, progress: RotationProgress) -> None:
    """A save in flight may have added an old one meanwhile. After a clean reading earlier versions are refused."""
    progress.saw(0, 0)
    found = _rewrap(rotation, progress, late=True)
    if found.count:
        _move(rotation, State.REWRAPPED, state=State.FAILED, broken=found.count)
        progress.add_failed(found.count)
        return
    if _is_late(rotation):
        return
    version = rotation.to_version or 0
    if calls.key_versions(rotation.recipient).oldest < version:
        calls.refuse_versions_before(rotation.recipient, version)
    with transaction.atomic():
        _note_versions(rotation, found)
        _move(rotation, State.REWRAPPED, state=State.SETTLED)
        oldest = Greatest(F("oldest_version"), version)
        Recipient.objects.filter(pk=rotation.recipient_id).update(oldest_version=oldest)


def _is_late(rotation: RecipientRotation) -> bool:
    """Whether this reading has put off the end of it."""
    return not RecipientRotation.objects.filter(pk=rotation.pk, settle_at=rotation.settle_at).exists()


def _move(rotation: RecipientRotation, state: str, /, **changes: Any) -> None:
    """Change a row that is still in this state. Raises LeaseLost: another worker has gone on with it."""
    if not RecipientRotation.objects.filter(pk=rotation.pk, state=state).update(**changes):
        raise LeaseLost
    for name in ("from_version", "to_version"):
        if name in changes:
            setattr(rotation, name, changes[name])


# -- the end -----------------------------------------------------------------------------------------------------------


def _end(operation: Operation) -> None:
    """The receipt and the audit row, once; then fail when something is left that the vault cannot rewrap."""
    rotations = operation.rotations.filter(recipient__in=operation.account.recipients.present())
    sums = rotations.aggregate(
        keys=Count("pk"),
        rewrapped=Sum("rewrapped"),
        late=Sum("late"),
        broken=Sum("broken", filter=Q(state=State.FAILED)),
    )
    result = {name: number or 0 for name, number in sums.items()}
    result["skipped"] = operation.rotations.count() - result["keys"]
    if operation.concluded_at is None:
        with transaction.atomic():
            if not operation.conclude(**result, recipients=_receipt(operation, rotations)):
                raise LeaseLost
            said = "ended with broken data keys" if result["broken"] else "ended"
            message = f"{operation.title}: {said}, {result['rewrapped']} data keys rewrapped"
            kms_audit.record(operation, "ROTATED", message, actor="rotator", **result)
    if result["broken"]:
        count = result["broken"]
        raise Failed(
            "data_keys_broken",
            f"The vault cannot rewrap {plural(count, 'wrapped data key')}; the rest is rotated, and where "
            "they are, earlier versions are still accepted. Restore them in the vault, then resume.",
        )


def _receipt(operation: Operation, rotations: QuerySet[RecipientRotation]) -> list[dict[str, object]]:
    """Of the first so many; the sums beside it are of all."""
    names = operation.account.recipients.names()
    return [
        {
            "id": str(row.recipient_id),
            "name": names.get(row.recipient_id, ""),
            "from_version": row.from_version,
            "to_version": row.to_version,
            "rewrapped": row.rewrapped,
            "late": row.late,
            "broken": row.broken if row.state == State.FAILED else 0,
        }
        for row in rotations[:NAMES_KEPT]
    ]
