"""What the audit log says was done with an account's Key Management Service: what rows say of it may be of another day."""

from collections.abc import Iterator

import structlog

from accounts import audit
from accounts.models import Account, AuditEntry

log = structlog.get_logger()


def deeds(account: Account) -> Iterator[AuditEntry]:
    """The newest first, up to an entry that was changed, or before which one is missing; none when the end was cut off."""
    seen = audit.newest_seen(account)  # before the log is read: others go on writing
    following: AuditEntry | None = None
    for entry in account.audit_entries.order_by("-seq").iterator(1000):
        if following is None:
            chained = entry.seq >= seen
        else:
            chained = following.seq == entry.seq + 1 and bytes(following.previous) == entry.link()
        if entry.signed_by() is None or entry.account_id != account.pk or not chained:
            log.error("audit_log_broken", account=str(account.pk), seq=entry.seq)
            return
        if (entry.type, entry.subject_id) == ("as.atom.kms", str(account.pk)):
            yield entry
        following = entry


def last_deed(account: Account, *actions: str) -> AuditEntry | None:
    """The newest of these acts; None when an entry since then was changed or is missing."""
    return next((entry for entry in deeds(account) if entry.action in actions), None)
