"""The queue. Workers are told ids of operations; the rows own the work (operations/models.py)."""

import os
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader
from celery.signals import celeryd_init, setup_logging, worker_process_init

from kmsportal.refusal import one_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")


class SettingsLoader(AppLoader):
    """Settings that cannot be used end a worker or beat in one line."""

    def config_from_object(self, obj: Any, silent: bool = False) -> Any:
        with one_line():
            return super().config_from_object(obj, silent=silent)


app = Celery("kmsportal", loader="kmsportal.celery:SettingsLoader")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["operations"])  # other rooms register theirs when their app is ready


@setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Celery leaves logging to Django's settings."""


@celeryd_init.connect
def check_start(options: Any = None, **_: Any) -> None:
    """In the worker's own process, before it forks."""
    from kmsportal import start

    queues = (options or {}).get("queues") or []
    with one_line():
        start.check(start.process_of(queues.split(",") if isinstance(queues, str) else queues))


@worker_process_init.connect
def fresh_vault_connections(**_: Any) -> None:
    """A forked worker must not share its parent's connections or tokens."""
    from vaults.hosted.calls import drop_tokens

    drop_tokens()
