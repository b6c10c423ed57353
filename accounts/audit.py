"""The audit log: appended in the transaction of the act it tells of, chained so that an edit, a gap or a swap shows.

Each entry is signed by the process that wrote it, with a key that no other process has. It never holds a value: callers pass
names, ids and counts.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import memory, signing
from accounts.models import Account, AuditEntry, User

log = structlog.get_logger()
FINGERPRINT_BYTES = 12
FIRST = b"\0" * 32  # what the first entry of an account points back to


def record(
    account: Account,
    *,
    actor: User | str,
    type: str,
    action: str,
    message: str,
    modifier: str = "NONE",
    subject_id: object = "",
    properties: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Append an entry. Must run inside the transaction of the act; actor is a user or the name of a part or container.

    What the act is about was locked or changed before: whoever holds the account's lock and waits for a row can be waited for by
    whoever has that row and is about to tell what became of it.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("An audit entry belongs into the transaction of its act.")
    # The account's row is the lock that keeps the chain from forking (SQLite's IMMEDIATE transactions need none).
    Account.objects.select_for_update(no_key=True).only("pk").get(pk=account.pk)
    entries = AuditEntry.objects.filter(account=account).order_by("-seq")
    last = entries.first()
    unknown = last if last is not None and last.signed_by() is None else None
    if unknown is not None:
        last = next((entry for entry in entries.iterator(100) if entry.signed_by() is not None), None)
        genuine = last.seq if last else 0
        if unknown.seq == genuine + entries.filter(seq__gt=genuine).count():
            last = unknown  # perhaps by a key whose listing this process has not read yet; a forged one is told of by its place
    written, previous = (last.seq, last.link()) if last else (0, FIRST)
    name = _name_of(account)
    if memory.newest(name) > written:  # the gap stays, for whoever reads the log
        log.error("audit_log_cut_off", account=str(account.pk), seq=written)
    seq = max(written, memory.newest(name)) + 1
    while unknown is not None and entries.filter(seq=seq).exists():
        seq += 1
    memory.remember(name, seq)
    entry = AuditEntry(
        account=account,
        seq=seq,
        at=timezone.now(),
        actor_id=actor.pk if isinstance(actor, User) else None,
        actor_name=actor.email if isinstance(actor, User) else actor,
        type=type,
        action=action,
        modifier=modifier,
        subject_id=str(subject_id),
        message=message[:500],
        properties=dict(properties or {}),
        previous=previous,
    )
    entry.signature = signing.sign(signing.own_process(), entry.signed_bytes())
    entry.save(force_insert=True)
    return entry


def newest_seen(account: Account) -> int:
    """The highest number that this process has seen an entry written with."""
    return memory.newest(_name_of(account))


def _name_of(account: Account) -> str:
    return f"audit-{account.pk.hex}"


def first_broken(account: Account) -> int | None:
    """The seq of the first entry that was changed, or before which one is missing; None when the chain holds."""
    expected_seq, previous = 1, FIRST
    for entry in AuditEntry.objects.filter(account=account).order_by("seq").iterator(1000):
        if entry.seq != expected_seq or bytes(entry.previous) != previous or entry.signed_by() is None:
            return expected_seq
        expected_seq, previous = entry.seq + 1, entry.link()
    return None


def head(account: Account) -> tuple[int, str]:
    """The newest entry's seq and fingerprint. Kept outside the database, they show later whether the end was cut off."""
    seq = AuditEntry.objects.filter(account=account).order_by("-seq").values_list("seq", flat=True).first() or 0
    return seq, fingerprint(account, seq)


def fingerprint(account: Account, seq: int) -> str:
    """The beginning of an entry's link, which stands for the entry and all before it; "" when there is no such entry."""
    entry = AuditEntry.objects.filter(account=account, seq=seq).first()
    return entry.link()[:FINGERPRINT_BYTES].hex() if entry else ""
