"""The audit entries of the Key Management Service (type as.atom.kms): one door to the account's log for keys and logins."""

from accounts import audit
from accounts.models import Account, AuditEntry, User
from atoms.models import Atom, Environment
from operations.models import Operation
from vaults.models import LoginAlarm

TYPE = "as.atom.kms"
Subject = Account | Environment | Atom | Operation | LoginAlarm


def record(subject: Subject, action: str, message: str, *, actor: User | str, **facts: object) -> AuditEntry:
    """Append an entry about an account, one of its environments or Atoms, a piece of work, or an alarm.

    In the caller's transaction. facts: names, ids and counts, never a value. Work and alarms add their own ids to them.
    An alarm has to be of an account.
    """
    account = subject if isinstance(subject, Account) else subject.account
    assert account is not None  # of an alarm about a role that is no account's there is nobody to tell
    if isinstance(subject, Operation):
        facts = {"operation": str(subject.pk), **facts}
    elif isinstance(subject, LoginAlarm):
        facts = {"alarm": str(subject.pk), "login": subject.mount, **facts}
    return audit.record(
        account,
        actor=actor,
        type=TYPE,
        action=action,
        subject_id=_subject_id(subject),
        message=message,
        properties=facts,
    )


def _subject_id(subject: Subject) -> object:
    if isinstance(subject, Operation):
        return subject.subject_id
    return subject.role if isinstance(subject, LoginAlarm) else subject.pk
