"""A person's credentials: one signed set of all that signing in goes by, so that no part of it can be changed, or another person's
put in its place, past the portal.

Signed with the person's row are the password's hash, whether it is active or staff, and a digest of each second factor; the one
address that a reset link can go to is the row's own. It is looked at where somebody signs in, proves to be there, or has a link
sent, and before it is signed anew. The rows of second factors are the sign-in library's, which tells of them by signals alone.
"""

import hashlib
from contextlib import suppress
from typing import Any

import structlog
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from accounts.models import SupportStaff, User
from accounts.rows import RowTampered, canonical_json

log = structlog.get_logger()


def factors_of(user: User) -> list[Authenticator]:
    """The person's second factors, when they, the row as it was loaded and the addresses are those that were signed; two queries.

    What is judged is what is returned: a second look could find something else. Raises RowTampered.
    """
    factors = list(Authenticator.objects.filter(user=user))
    addresses = EmailAddress.objects.filter(user=user).values_list("email", flat=True)
    genuine = user.has_valid_signature() and {one.type: digest(one) for one in factors} == user.factors
    if not genuine or any(address.lower() != user.email for address in addresses):
        log.error("credentials_forged", user=str(user.pk))
        raise RowTampered(f"The credentials of {user.email} were changed past the portal.")
    return factors


def is_genuine(user: User) -> bool:
    with suppress(RowTampered):
        factors_of(user)
        return True
    return False


def verify(user: User) -> User:
    """The person. Raises RowTampered."""
    factors_of(user)
    return user


def digest(factor: Authenticator) -> str:
    """SHA-256 of a second factor's secret, in hex; which recovery codes were used is not in it."""
    secret = factor.data
    if isinstance(secret, dict):
        secret = {name: value for name, value in secret.items() if name != "used_mask"}
    return hashlib.sha256(canonical_json(secret)).hexdigest()


@receiver(post_save, sender=Authenticator)
def factor_saved(instance: Authenticator, created: bool, **_: Any) -> None:
    """A new one is signed for, within the transaction that adds it; one that is there already stays what it was."""
    if created:
        _sign(instance, digest(instance))
    elif User.objects.get(pk=instance.user_id).verified().factors.get(instance.type) != digest(instance):
        raise RowTampered("A second factor was changed past the portal.")


@receiver(post_delete, sender=Authenticator)
def factor_deleted(instance: Authenticator, origin: object, **_: Any) -> None:
    if not isinstance(origin, User):  # with whom it goes
        _sign(instance, None)


@transaction.atomic
def _sign(factor: Authenticator, found: str | None) -> None:
    user = User.objects.select_for_update(no_key=True).get(pk=factor.user_id).verified()
    factors = {kind: known for kind, known in user.factors.items() if kind != factor.type}
    user.factors = factors | ({factor.type: found} if found else {})
    user.save(update_fields=["factors"])


@transaction.atomic
def start_anew(user: User, email: str, password: str) -> None:
    """On the operator's word, whatever stands there: an active person with this address and password, no second factor and no
    other address, staff only where a genuine row says so. Who was signed in as this person is no more."""
    Authenticator.objects.filter(user=user)._raw_delete("default")  # their telling would sign what stands there
    EmailAddress.objects.filter(user=user).delete()
    support = SupportStaff.objects.filter(user=user).first()
    user.email = email
    user.set_password(password)
    user.factors, user.is_active, user.is_superuser = {}, True, False
    user.is_staff = support is not None and support.user_id == user.pk and support.has_valid_signature()
    user.generation = 0  # whatever stands there: what was seen of the row counts
    user.signed()
    written = {name: getattr(user, name) for name in (*User.SIGNED, "generation", "signature")}
    User.objects.filter(pk=user.pk).update(**written)
