"""For load balancers and monitoring: alive, ready, metrics. None of it tells a stranger anything."""

import hmac
import time
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from operations.models import Operation
from vaults.hosted import calls, renewal
from vaults.models import HeldCredentials, LoginAlarm, LoginWatch

READY_SECONDS = 2  # how long an answer of /ready is given again


@require_safe
@login_not_required
def live(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@login_not_required
def ready(request: HttpRequest) -> HttpResponse:
    """Database, migrations, hosted vault and this process's credentials are there; 503 names the part that is not."""
    parts, days = _parts(int(time.monotonic() // READY_SECONDS), settings.VAULT_ADDR)
    return JsonResponse(parts | {"credentials_days": days}, status=200 if set(parts.values()) == {"ok"} else 503)


@lru_cache(maxsize=1)
def _parts(period: int, vault: str) -> tuple[dict[str, str], int]:
    """Each part's state, asked for once in a period, since strangers' requests make no more calls than that; and for how many
    days this process's credentials last."""
    held = renewal.look(Path(settings.CREDENTIALS or "/nonexistent"))
    credentials = "unreadable" if held.expires is None else "ended" if held.expires < timezone.now() else "ok"
    return {"database": _database(), "vault": calls.health(), "credentials": credentials}, held.days


def _database() -> str:
    try:
        executor = MigrationExecutor(connection)
        return "migrations_missing" if executor.migration_plan(executor.loader.graph.leaf_nodes()) else "ok"
    except DatabaseError:
        return "unavailable"


@require_safe
@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text, for whoever has KMS_METRICS_TOKEN."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not settings.METRICS_TOKEN or not hmac.compare_digest(given.encode(), settings.METRICS_TOKEN.encode()):
        raise Http404
    registry = CollectorRegistry()
    unfinished = Operation.objects.unfinished()
    oldest = unfinished.order_by("requested_at").values_list("requested_at", flat=True).first()
    age = (timezone.now() - oldest).total_seconds() if oldest else 0
    Gauge("kms_operations_unfinished", "Operations not finished", registry=registry).set(unfinished.count())
    Gauge("kms_operations_oldest_seconds", "Age of the oldest unfinished operation", registry=registry).set(age)
    Gauge("kms_vault_ready", "1 when the hosted vault answers unsealed", registry=registry).set(calls.health() == "ok")
    alarms = LoginAlarm.objects.filter(closed_at=None).count()
    Gauge("kms_login_alarms_open", "Logins at the vault nobody enrolled", registry=registry).set(alarms)
    looked = LoginWatch.objects.filter(pk=1).values_list("scanned_at", flat=True).first()
    behind = (timezone.now() - looked).total_seconds() if looked else -1
    Gauge("kms_login_watch_seconds", "Age of the last scan of the logins; -1: none", registry=registry).set(behind)
    lasting = Gauge(
        "kms_credentials_expire_seconds",
        "Until a process's credentials for the hosted vault end, as it found an hour ago or later; -1: they cannot be read",
        ["process", "host"],
        registry=registry,
    )
    for held in HeldCredentials.objects.all():
        left = (held.expires_at - timezone.now()).total_seconds() if held.expires_at else -1
        lasting.labels(held.process or "unknown", held.host).set(left)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
