"""Checks the audit log: every entry of an account's chain, and, against what was printed before, that its end is there."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit
from accounts.models import Account


class Command(BaseCommand):
    help = "Check each account's audit chain and print CODE:SEQ:FINGERPRINT of its newest entry, to be kept elsewhere."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("code", nargs="?", help="One account's code; all accounts when left out.")
        parser.add_argument(
            "--expect",
            action="append",
            default=[],
            metavar="CODE:SEQ:FINGERPRINT",
            help="A line an earlier run printed: that entry must be there unchanged. May be given several times.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        broken = [problem for line in options["expect"] if (problem := self._missing(line))]
        accounts = Account.objects.filter(code=options["code"]) if options["code"] else Account.objects.order_by("code")
        if options["code"] and not accounts:
            raise CommandError(f"There is no account {options['code']}.")
        for account in accounts:
            at = audit.first_broken(account)
            if at is None:
                seq, fingerprint = audit.head(account)
                self.stdout.write(f"{account.code}:{seq}:{fingerprint}")
            else:
                broken.append(f"{account.code}: entry {at} was changed, or one before it is missing.")
        if broken:
            raise CommandError("\n".join(broken), returncode=1)

    def _missing(self, line: str) -> str:
        """What is wrong with an entry that was there once; "" when it still is."""
        code, _, rest = line.partition(":")
        seq, _, fingerprint = rest.partition(":")
        if not (code and seq.isdecimal()):
            raise CommandError(f"{line} is not of the form CODE:SEQ:FINGERPRINT.")
        account = Account.objects.filter(code=code).first()
        if account is not None and audit.fingerprint(account, int(seq)) == fingerprint:
            return ""
        return (
            f"{code}: entry {seq} is not the one that was there: newer entries were removed, or the log was replaced."
        )
