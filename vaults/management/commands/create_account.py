"""How a real installation starts: an account and its first administrator. Public sign-up is closed."""

import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import transaction

from accounts import actions as accounts
from accounts.models import ADMINISTRATOR, Account, Role, User
from vaults.actions import activate_kms


class Command(BaseCommand):
    help = "Create an account and its first administrator; the password is asked for, or read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="The account's name, for people.")
        parser.add_argument(
            "--admin", required=True, metavar="EMAIL", help="E-mail address of the first administrator."
        )
        parser.add_argument("--code", help="The account's code (acme-X1Y2Z3); made from the name when left out.")
        parser.add_argument("--without-kms", action="store_true", help="Do not activate the Key Management Service.")

    def handle(self, *args: Any, **options: Any) -> None:
        email = options["admin"].strip().lower()
        try:
            validate_email(email)
            with transaction.atomic():
                account = self._create(options["name"], options["code"], email)
                if not options["without_kms"]:
                    activate_kms(account, actor="operator")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        kms = (
            "without the Key Management Service" if options["without_kms"] else "with the Key Management Service active"
        )
        self.stdout.write(f"Account {account.name} ({account.code}) created {kms}; {email} is its administrator.")

    def _create(self, name: str, code: str | None, email: str) -> Account:
        user = User.objects.filter(email=email).first() or self._create_user(email)
        account = accounts.create_account(name, code=code, actor="operator")
        accounts.add_member(account, user, [Role.objects.get(pk=ADMINISTRATOR)], actor="operator")
        return account

    def _create_user(self, email: str) -> User:
        if sys.stdin.isatty():
            password = getpass.getpass(f"Password for {email}: ")
            if password != getpass.getpass("The same again: "):
                raise CommandError("The two passwords differ; nothing was created.")
        else:
            password = sys.stdin.readline().rstrip("\n")
        validate_password(password, User(email=email))
        return User.objects.create_user(email, password)
