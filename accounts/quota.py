"""How much one account may have, so that no customer crowds out another: each environment, Atom and connection costs the vault
and the watch something for good."""

from django.conf import settings
from django.db.models import QuerySet

from kmscore.refused import Refused


def check(noun: str, rows: QuerySet) -> None:  # type: ignore[type-arg]
    """Before one more is made. noun: a key of settings.QUOTAS, in the plural. Raises Refused (quota_reached)."""
    most = settings.QUOTAS[noun]
    if rows.count() >= most:
        raise Refused(
            "quota_reached",
            f"An account has at most {most:,} {noun}. Delete what is not needed, or ask the portal's operator for more.",
        )
