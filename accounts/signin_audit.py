"""What people change about their own signing in, told to every account they are a member of.

The library that signs people in tells of it by signals; these are the only ones listened to.
"""

from typing import Any

from allauth.account import signals as sign_in
from allauth.mfa import signals as second_factor
from allauth.mfa.models import Authenticator
from django.db import transaction
from django.dispatch import Signal, receiver

from accounts import audit
from accounts.models import Account, User

PASSWORDS: dict[Signal, str] = {
    sign_in.password_set: "set a password",
    sign_in.password_changed: "changed their password",
    sign_in.password_reset: "chose a new password by a link sent by mail",
}
FACTORS: dict[Signal, str] = {
    second_factor.authenticator_added: "added {}",
    second_factor.authenticator_removed: "removed {}",
    second_factor.authenticator_reset: "made {} anew",
}
NAMES = {Authenticator.Type.TOTP: "an authenticator app", Authenticator.Type.RECOVERY_CODES: "recovery codes"}


@receiver(list(PASSWORDS))
def password(signal: Signal, user: User, **_: Any) -> None:
    _tell(user, PASSWORDS[signal])


@receiver(list(FACTORS))
def factor(signal: Signal, user: User, authenticator: Authenticator, **_: Any) -> None:
    kind = Authenticator.Type(authenticator.type)
    _tell(user, FACTORS[signal].format(NAMES.get(kind, kind.label)))


def _tell(user: User, what: str) -> None:
    with transaction.atomic():
        for account in Account.of_member(user):
            audit.record(
                account,
                actor=user,
                type="user",
                action="EDIT",
                subject_id=user.pk,
                message=f"{user.email} {what}",
            )
