"""The watch: the process that finds and destroys logins nobody enrolled, and those that were taken back."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kmscore.vaultclient.answers import VaultError
from kmsportal import start
from kmsportal.refusal import one_line
from operations.clock import Clock
from operations.models import Operation
from vaults.logins import watch

ALIVE_SECONDS = 5.0
LOOK_SECONDS = 1.0  # for what was taken back: revoked nodes, moved Atoms, disabled accounts


class Command(BaseCommand):
    help = "Compare the logins at the hosted vault with the enrolments and destroy what was taken back, until it is stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="one look, and what it found")

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line():
            start.check("watch")
        if options["once"]:
            self._once()
            return
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        clock = Clock([Operation.Queue.WATCH], LOOK_SECONDS)
        clock.start()
        while not stopped.wait(ALIVE_SECONDS):
            if not clock.is_running:
                raise CommandError("The watch's clock has ended unforeseen; start it again.")
        clock.stop()

    def _once(self) -> None:
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
