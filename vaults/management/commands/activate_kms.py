"""Activates the Key Management Service of an account that was created without it."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.management.commands._people import find_account
from accounts.rows import RowTampered
from vaults.keys.provision import activate_kms


class Command(BaseCommand):
    help = "Activate the Key Management Service of an account."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("code", help="The account's code, for example acme-X1Y2Z3.")

    def handle(self, *args: Any, **options: Any) -> None:
        account = find_account(options["code"])
        try:
            activate_kms(account, actor="operator")
        except RowTampered as problem:
            raise CommandError(f"{problem} Nothing was done: put it back from a backup.") from None
        self.stdout.write(f"The Key Management Service of {account.code} is active.")
