"""For somebody who has lost a password or a second factor, or whose credentials were changed past the portal."""

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import audit, credentials
from accounts.access import genuine_roles
from accounts.management.commands._people import new_password
from accounts.models import Account, Membership, User


class Command(BaseCommand):
    help = (
        "Give a person a new password, asked for or read from standard input, and no second factor; make sure who asks."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--id", type=UUID, help="Whose row it is, when it was changed past the portal.")

    def handle(self, *args: Any, **options: Any) -> None:
        email = options["email"].strip().lower()
        user = self._forged(options["id"]) if options["id"] else self._genuine(email)
        try:
            password = new_password(email)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        with transaction.atomic():
            credentials.start_anew(user, email, password)
            for account in Account.of_member(user):
                audit.record(
                    account,
                    actor="operator",
                    type="user",
                    action="EDIT",
                    subject_id=user.pk,
                    message=f"{user.email} got a new password and no second factor, from the operator",
                )
        self.stdout.write(f"{user.email} has a new password and no second factor.")

    def _genuine(self, email: str) -> User:
        user = User.objects.filter(email=email).first()
        if user is None:
            raise CommandError(f"There is no user {email}.")
        if user.email != email or not user.has_valid_signature():
            raise CommandError(
                f"The row of {email} was changed past the portal, so it may be another person's: {_what(user)}. "
                f"If it is who asks, run this again with --id {user.pk}; the address is then the one you give."
            )
        return user

    def _forged(self, pk: UUID) -> User:
        user = User.objects.filter(pk=pk).first()
        if user is None:
            raise CommandError(f"There is no user with the id {pk}.")
        self.stdout.write(f"{pk}: {_what(user)}.")
        return user


def _what(user: User) -> str:
    """Where the person is a member, by genuine rows."""
    memberships = Membership.objects.filter(user=user).select_related("account")
    found = [(one.account.name, [str(role) for role in genuine_roles(one)]) for one in memberships]
    return "; ".join(f"{name} ({', '.join(roles)})" for name, roles in found if roles) or "a member of no account"
