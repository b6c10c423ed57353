"""For somebody who has lost a password or a second factor, or whose credentials were changed past the portal."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import audit, credentials
from accounts.management.commands._people import new_password
from accounts.models import Account, User


class Command(BaseCommand):
    help = (
        "Give a person a new password, asked for or read from standard input, and no second factor; make sure who asks."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].strip().lower()).first()
        if user is None:
            raise CommandError(f"There is no user {options['email']}.")
        try:
            password = new_password(user.email)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        with transaction.atomic():
            credentials.start_anew(user, password)
            for account in Account.objects.of_member(user):
                audit.record(
                    account,
                    actor="operator",
                    type="user",
                    action="EDIT",
                    subject_id=user.pk,
                    message=f"{user.email} got a new password and no second factor, from the operator",
                )
        self.stdout.write(f"{user.email} has a new password and no second factor.")
