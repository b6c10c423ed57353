"""How a real installation starts: an account and its first administrator. Public sign-up is closed."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import actions as accounts
from accounts.management.commands._people import find_or_create_user
from accounts.models import Role
from accounts.privileges import ADMINISTRATOR
from vaults.keys.provision import activate_kms


class Command(BaseCommand):
    help = "Create an account and its first administrator; the password is asked for, or read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="The account's name, for people.")
        parser.add_argument("--admin", required=True, metavar="EMAIL", help="Address of the first administrator.")
        parser.add_argument("--code", help="The account's code (acme-X1Y2Z3); made from the name when left out.")
        parser.add_argument("--without-kms", action="store_true", help="Do not activate the Key Management Service.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                user = find_or_create_user(options["admin"])
                account = accounts.create_account(options["name"], code=options["code"], actor="operator")
                accounts.add_member(account, user, [Role.objects.get(pk=ADMINISTRATOR)], actor="operator")
                if not options["without_kms"]:
                    activate_kms(account, actor="operator")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        kms = "without the" if options["without_kms"] else "with its"
        self.stdout.write(f"Account {account.name} ({account.code}) is created, {kms} Key Management Service.")
        self.stdout.write(f"{user.email} is its administrator.")
