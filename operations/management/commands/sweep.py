"""Does what is due without Celery: for a broken queue, and for operators who want to see it done."""

from typing import Any

from django.core.management.base import BaseCommand

from operations import actions


class Command(BaseCommand):
    help = "Do what is due now and then, and every operation that is due, in this process."

    def handle(self, *args: Any, **options: Any) -> None:
        actions.do_chores()
        self.stdout.write(f"{actions.sweep()} operations taken up.")
