"""Makes somebody a member of an account, or sets a member's roles."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.db.models import Q

from accounts import actions
from accounts.management.commands._people import find_account, find_or_create_user
from accounts.models import Account, Role


class Command(BaseCommand):
    help = "Add a member to an account with exactly these roles; a new user's password is read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("code", help="The account's code, for example acme-X1Y2Z3.")
        parser.add_argument("email")
        parser.add_argument(
            "--role", action="append", required=True, metavar="NAME", help="May be given several times."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        account = find_account(options["code"])
        roles = [self._role(account, name) for name in options["role"]]
        try:
            with transaction.atomic():
                user = find_or_create_user(options["email"])
                actions.add_member(account, user, roles, actor="operator")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except actions.LastAdministrator as refused:
            mend = f"manage.py add_member {account.code} EMAIL --role Administrator"
            raise CommandError(f"{refused} ({mend}) Nothing was changed.") from None
        self.stdout.write(f"{user.email} is a member of {account.code} with {', '.join(map(str, roles))}.")

    def _role(self, account: Account, name: str) -> Role:
        """By the name that is signed, or that the code has for a built-in one."""
        roles = [
            role for role in Role.objects.filter(Q(account=account) | Q(account=None)) if role.has_valid_signature()
        ]
        for role in sorted(roles, key=lambda role: role.account_id is None):
            if str(role) == name:
                return role
        raise CommandError(f"There is no role {name}. There are: {', '.join(sorted(map(str, roles)))}.")
