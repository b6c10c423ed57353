"""The queue. Workers are told ids of operations; the rows own the work (operations/models.py)."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")

app = Celery("kmsportal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["operations"])  # other rooms register theirs when their app is ready


@setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Celery leaves logging to Django's settings."""


@worker_process_init.connect
def fresh_vault_connections(**_: Any) -> None:
    """A forked worker must not share its parent's connections or tokens."""
    from vaults.hosted.calls import drop_tokens

    drop_tokens()
