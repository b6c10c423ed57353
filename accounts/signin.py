"""What we want of signing in that settings cannot say."""

import time

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.core import context
from django.conf import settings
from django.http import HttpRequest


class PortalAccountAdapter(DefaultAccountAdapter):
    """Sign-up is closed, and a fresh sign-in is proof enough for an act that asks for one."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Accounts are made by `manage.py create_account`."""
        return False

    def is_reauthentication_required(self, *, app: str, **kwargs: object) -> bool:
        """Whether the latest proof, signing in included, is too old (docs/decisions/0005)."""
        request = context.request
        proofs = [record.get("at", 0) for record in get_authentication_records(request, request.user)]
        return time.time() - max(proofs, default=0) > settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
