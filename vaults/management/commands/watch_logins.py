"""One scan of who can log in at the hosted vault, for operators and for a broken queue."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kmscore.vaultclient.answers import VaultError
from vaults.logins import watch


class Command(BaseCommand):
    help = "Compare the logins at the hosted vault with the enrolments, once; raises the alarms it finds."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = watch.scan()
        except VaultError as error:
            raise CommandError(f"Nothing was compared. {error.sentence}") from None
        if found is None:
            self.stdout.write("Another scan is under way.")
            return
        self.stdout.write(f"{found.secret_ids} logins of {found.roles} environments and Atoms compared.")
        self.stdout.write(f"{found.destroyed} that were taken back were destroyed again.")
        for alarm in found.alarms:
            account = alarm.account.code if alarm.account else "no account"
            self.stdout.write(f"ALARM: nobody enrolled a login of {account} at {alarm.mount}/{alarm.role}.")
        self.stdout.write(f"{len(found.alarms)} new alarms.")
