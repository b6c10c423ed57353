"""How much one account may have, so that no customer crowds out another: each environment, Atom and connection costs the vault
and the watch something for good."""

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from accounts.models import Account
from kmscore.refused import Refused


def check(account: Account, noun: str, rows: QuerySet) -> None:  # type: ignore[type-arg]
    """Before one more is made, in the transaction that makes it: until its end nobody else passes for this account.

    noun: a key of settings.QUOTAS, in the plural. Raises Refused (quota_reached).
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("A quota holds in the transaction of what it is asked for.")
    Account.objects.select_for_update(no_key=True).only("pk").get(pk=account.pk)
    most = settings.QUOTAS[noun]
    if rows.count() >= most:
        raise Refused(
            "quota_reached",
            f"An account has at most {most:,} {noun}. Delete what is not needed, or ask the portal's operator for more.",
        )
