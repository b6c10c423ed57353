"""What the commands about people share."""

import getpass
import sys

from django.contrib.auth.password_validation import validate_password
from django.core.management.base import CommandError
from django.core.validators import validate_email

from accounts import credentials
from accounts.models import Account, User


def find_account(code: str) -> Account:
    """The account of this code, as it was signed. Raises CommandError."""
    account = Account.objects.filter(code=code).first()
    if account is None:
        raise CommandError(f"There is no account {code}.")
    if account.code != code or not account.has_valid_signature():
        raise CommandError(f"The account {code} was changed past the portal; nothing was done.")
    return account


def find_or_create_user(email: str) -> User:
    """The user of an address; a new one's password is asked for, or read from standard input.

    Raises ValidationError for a bad address or password, CommandError when two typed passwords differ.
    """
    email = email.strip().lower()
    validate_email(email)
    found = User.objects.filter(email=email).first()
    if found is not None:
        if found.email != email or not credentials.is_genuine(found):
            raise CommandError(f"The credentials of {email} were changed past the portal: see reset_credentials.")
        return found
    return User.objects.create_user(email, new_password(email))


def new_password(email: str) -> str:
    """Asked for twice, or read from standard input. Raises ValidationError for a bad one, CommandError when two typed differ."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {email}: ")
        if password != getpass.getpass("The same again: "):
            raise CommandError("The two passwords differ; nothing was changed.")
    else:
        password = sys.stdin.readline().rstrip("\n")
    validate_password(password, User(email=email))
    return password
