"""Lets somebody into the support staff's pages, or takes that back."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import actions
from accounts.management.commands._people import find_or_create_user
from accounts.models import User


class Command(BaseCommand):
    help = "Make a person one of the support staff; a new user's password is read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--remove", action="store_true", help="Take it back; the person stays a user.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["remove"]:
            self._remove(options["email"].strip().lower())
            return
        try:
            with transaction.atomic():
                user = find_or_create_user(options["email"])
                actions.add_support_staff(user)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(f"{user.email} is one of the support staff: /support/ after signing in.")

    def _remove(self, email: str) -> None:
        user = User.objects.filter(email=email).first()
        if user is None:
            raise CommandError(f"There is no user {email}.")
        actions.remove_support_staff(user)
        self.stdout.write(f"{email} is not one of the support staff any more.")
