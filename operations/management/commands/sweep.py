"""Does what is due without Celery: for a broken queue, and for operators who want to see it done."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from operations import work
from operations.models import Operation


class Command(BaseCommand):
    help = "Do what is due now and then, and every operation that is due, in this process."

    def add_arguments(self, parser: CommandParser) -> None:
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--shred", action="store_true", help="what the shred worker does, with its credentials")
        whose.add_argument("--watch", action="store_true", help="what the watch does, with its credentials")

    def handle(self, *args: Any, **options: Any) -> None:
        queues = (
            [Operation.Queue.SHRED]
            if options["shred"]
            else [Operation.Queue.WATCH]
            if options["watch"]
            else list(work.SWEPT)
        )
        work.run_periodic(queues)
        taken = work.sweep(queues=queues)
        self.stdout.write(f"{taken} operations taken up.")
