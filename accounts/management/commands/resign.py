"""After a process's key was changed: signs anew, with the key in use, what an earlier one signed. Run as that process's user."""

import time
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import signing
from accounts.rows import RowTampered, SignedModel

SETTLED_SECONDS = 60  # by then no transaction goes on that began under an earlier key list
MOST_NAMED = 20


class Command(BaseCommand):
    help = "Sign every row of this process anew with the key it uses now; then install_vault --end-key can end the old one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--settled", type=int, default=SETTLED_SECONDS, metavar="SECONDS", help="how old the key list has to be"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        process, forged = signing.own_process(), set[str]()
        if not process:
            raise CommandError("KMS_CREDENTIALS of this process holds no signing key that is in use.")
        wait = signing.keyring().listed.made_at + options["settled"] - time.time()
        signed = self._pass(process, forged)
        if wait > 0:
            time.sleep(wait)
            signed += self._pass(process, forged)  # what was being saved with the old key
        self.stdout.write(f"{signed} rows are signed anew as {process}; none is left under an earlier key.")
        if forged:
            named = ", ".join(sorted(forged)[:MOST_NAMED])
            raise CommandError(f"{len(forged)} rows bear no signature of the portal, and were left alone: {named}.")

    def _pass(self, process: str, forged: set[str]) -> int:
        signed = 0
        for model in (model for model in apps.get_models() if issubclass(model, SignedModel) and model.SIGNERS):
            for row in model._base_manager.order_by("pk").iterator(1000):
                try:
                    signed += row.sign_anew(process)
                except RowTampered:
                    forged.add(f"{model._meta.label} {row.pk}")
        return signed
