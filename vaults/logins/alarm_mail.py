"""Tells the Administrators of an account, by e-mail, that somebody can read what only its containers should.

Sent after the alarm is on record, and marked once it was handed over: a mail server that is down, or a process that dies,
delays a mail and never loses the alarm.
"""

from datetime import timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account, Role
from accounts.privileges import Privilege
from vaults.logins.alarms import owner
from vaults.models import LoginAlarm

log = structlog.get_logger()
TRIED_FOR = timedelta(days=1)
AT_ONCE = 20  # alarms in one mail and one scan; more of them are named by their number

BODY = """\
Somebody can log in at the hosted vault as {names} of {account}, and the portal enrolled nobody for it.

Found: {found}
What it can read: {reads}

Unless you know what it is, destroy that login now, then change the secrets it could read:
{address}

If an older backup of the portal's database was restored a moment ago, these may be your own containers. Ask the portal's
operator before you destroy anything.
"""


def send_due() -> None:
    """Send what was not sent yet. Raises nothing: a mail server that fails is asked again by the next scan."""
    alarms = LoginAlarm.objects.filter(mailed_at=None, found_at__gt=timezone.now() - TRIED_FOR).exclude(account=None)
    grouped: dict[Account, list[LoginAlarm]] = {}
    for alarm in alarms.select_related("account")[:500]:
        if alarm.account is not None and alarm.has_valid_signature():
            grouped.setdefault(alarm.account, []).append(alarm)
    for account, rows in grouped.items():
        try:
            _mail(account, rows)
        except Exception as error:  # whatever a mail server says, the alarm stands
            log.error("alarm_mail_failed", account=account.code, error=type(error).__name__)
            continue
        LoginAlarm.objects.filter(pk__in=[row.pk for row in rows]).update(mailed_at=timezone.now())


def administrators(account: Account) -> list[str]:
    """Addresses of the account's Administrators; rows that do not bear the portal's signature give none."""
    roles = [role for role in Role.objects.filter(Q(account=None) | Q(account=account)) if role.has_valid_signature()]
    administering = {str(role.pk) for role in roles if Privilege.ACCOUNT_ADMIN in role.privilege_set()}
    members = [row for row in account.memberships.select_related("user") if not administering.isdisjoint(row.roles)]
    genuine = [row.user for row in members if row.has_valid_signature() and row.user.has_valid_signature()]
    return sorted(user.email for user in genuine if user.is_active)


def _mail(account: Account, alarms: list[LoginAlarm]) -> None:
    people = administrators(account)
    if not people:
        raise LookupError(account.code)  # nobody yet, or nobody whose row is genuine just now
    names = _names(alarms)
    body = BODY.format(
        names=names,
        account=account.name if account.has_valid_signature() else "an account whose row was changed past the portal",
        found=f"{min(alarm.found_at for alarm in alarms):%d %B %Y, %H:%M} UTC",
        reads=_reads(alarms),
        address=settings.PORTAL_URL + reverse("vaults:kms_account", args=[account.code]),
    )
    # One message for all, so that trouble halfway cannot send it twice to some; addresses stay hidden from each other.
    EmailMessage(f"KMS Portal: somebody nobody enrolled can log in as {names}"[:200], body, bcc=people).send()


def _names(alarms: list[LoginAlarm]) -> str:
    found = sorted({" ".join(owner(alarm.mount, alarm.role)[1].split()) for alarm in alarms[:AT_ONCE]})
    return found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"


def _reads(alarms: list[LoginAlarm]) -> str:
    if any(alarm.mount == "environments" for alarm in alarms):
        return "every encrypted value of the environment, now and until it is destroyed."
    return "the Atom's Key Management Service settings and its at-rest data keys."
