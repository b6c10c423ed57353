"""The queue. Workers are told ids of operations; the rows own the work (operations/models.py)."""

import os
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader
from celery.signals import celeryd_init, setup_logging

from kmsportal.refusal import one_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")


class SettingsLoader(AppLoader):
    """Settings that cannot be used end a worker in one line."""

    def config_from_object(self, obj: Any, silent: bool = False) -> Any:
        with one_line():
            return super().config_from_object(obj, silent=silent)


app = Celery("kmsportal", loader="kmsportal.celery:SettingsLoader")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["operations"])
app.steps["worker"].update(("kmsportal.worker:OneTask", "kmsportal.worker:ClockThread"))  # imported by workers only


@setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Celery leaves logging to Django's settings."""


@celeryd_init.connect
def check_start(options: Any = None, **_: Any) -> None:
    """Before the worker does anything."""
    from kmsportal import start

    queues = (options or {}).get("queues") or []
    with one_line():
        start.check(start.process_of(queues.split(",") if isinstance(queues, str) else queues))
