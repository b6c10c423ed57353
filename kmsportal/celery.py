"""The queue. Workers are told ids of operations; the rows own the work (operations/models.py)."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")

from django.conf import settings  # noqa: E402

app = Celery("kmsportal", broker=settings.REDIS_URL)
app.conf.update(
    task_ignore_result=True,
    result_backend=None,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_send_sent_event=False,
    worker_send_task_events=False,
    worker_prefetch_multiplier=1,
    task_time_limit=300,
    task_default_queue="interactive",
    worker_cancel_long_running_tasks_on_connection_loss=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": 900,
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        "health_check_interval": 30,
        "max_retries": 0,
    },
    beat_schedule={"sweep": {"task": "operations.tasks.sweep_operations", "schedule": 5.0}},
    beat_schedule_filename=str(settings.VAR / "beat"),
)
app.autodiscover_tasks(["operations"])


@setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Celery leaves logging to Django's settings."""


@worker_process_init.connect
def fresh_vault_connections(**_: Any) -> None:
    """A forked worker must not share its parent's connections or tokens."""
    from vaults import hosted

    hosted.forget()
