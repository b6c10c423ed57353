"""What we want of signing in that settings cannot say."""

import time
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from allauth.account.authentication import get_authentication_records
from allauth.account.forms import ResetPasswordForm
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as second_factor
from allauth.mfa.base.internal.flows import check_rate_limit
from django.conf import settings
from django.http import HttpRequest

from accounts import credentials
from accounts.models import User
from accounts.rows import RowTampered


class SignedCredentials(AuthenticationBackend):
    """Passwords of people whose credentials are those that were signed; it is asked at a proof of presence, too."""

    def authenticate(self, request: HttpRequest | None, **given: Any) -> User | None:
        try:
            user = super().authenticate(request, **given)
            return credentials.verify(user) if isinstance(user, User) else None
        except RowTampered:  # a hash of yesterday's making is signed anew at once
            return None

    def get_user(self, user_id: Any) -> User | None:
        """Whose session it is, as the row was signed."""
        user = super().get_user(user_id)
        return user if isinstance(user, User) and str(user.pk) == str(user_id) and user.has_valid_signature() else None


class _SignedFactors(second_factor.BaseAuthenticateForm):
    def clean_code(self) -> str:
        """As the library's, with the very factors that were judged."""
        clear_limit = check_rate_limit(self.user)
        code = str(self.cleaned_data["code"])
        factors = credentials.factors_of(User.objects.get(pk=self.user.pk).verified(pk=self.user.pk))
        factors.sort(key=lambda factor: factor.type != factor.Type.TOTP)  # a failure is told of that one
        for factor in factors:
            if factor.wrap().validate_code(code):
                factor.user = self.user
                self.authenticator = factor
                clear_limit()
                return code
        if factors:
            self._emit_authentication_failed(factors[0])
        raise get_adapter().validation_error("incorrect_code")


class AuthenticateForm(_SignedFactors, second_factor.AuthenticateForm):
    """The second factor at sign-in."""


class ReauthenticateForm(_SignedFactors, second_factor.ReauthenticateForm):
    """The second factor as a proof of presence."""


class SignedResetForm(ResetPasswordForm):
    """Sends a link to the address that a person's credentials were signed with, and to no other; nobody else is looked for."""

    def clean_email(self) -> str:
        email = str(super().clean_email())
        found = User.objects.filter(email=email.lower(), is_active=True)
        self.users: list[User] = [
            user for user in found if user.email == email.lower() and credentials.is_genuine(user)
        ]
        return email


class PortalAccountAdapter(DefaultAccountAdapter):
    """Sign-up is closed, and a fresh sign-in is proof enough for an act that asks for one."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Accounts are made by `manage.py create_account`."""
        return False

    def set_password(self, user: User, password: str) -> None:
        """Raises RowTampered, so that nothing is signed anew that was not signed before."""
        super().set_password(credentials.verify(User.objects.get(pk=user.pk).verified(pk=user.pk)), password)
        user.refresh_from_db()

    def is_reauthentication_required(self, *, app: str, **kwargs: object) -> bool:
        """Whether the latest proof, signing in included, is too old (docs/decisions/0005)."""
        request = context.request
        proofs = [record.get("at", 0) for record in get_authentication_records(request, request.user)]
        return time.time() - max(proofs, default=0) > settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
