"""What a container reports: which key protects its store, which revision it holds, and what is wrong, in its own words."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal

from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from ninja import Router
from pydantic import AwareDatetime, Field

from atomapi.auth import NodeRequest, sync_credential
from atomapi.body import Body
from atomapi.enrol import Printable
from atoms.models import Environment, Node
from vaults.models import ContainerReport

router = Router()
MAX_INT, MAX_BIG = 2**31 - 1, 2**63 - 1  # what the columns hold
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Seconds = Annotated[int, Field(ge=0, le=int(LATEST.timestamp()))]  # a moment, or how long something lasts


class StepIn(Body):
    """A step of the preflight; its sentences are made here, from step and code (kmscore/byov/preflight.py)."""

    step: str = Field(pattern="^[a-z0-9_]{1,32}$")
    state: Literal["ok", "failed", "warning", "skipped"]
    code: str = Field(pattern="^[a-z0-9_]{1,64}$")
    detail: Printable = Field("", max_length=200)


class TokenFacts(Body):
    """How long the customer's token works (kmscore/byov/token.py); times in seconds since 1970."""

    ttl: Seconds = 0
    period: Seconds = 0
    ends: Seconds | None = None
    because: str = Field("", pattern="^[a-z0-9_]{0,32}$")
    certain: bool = True
    renews_every: Seconds | None = None
    next_renewal: Seconds | None = None
    looked_up_at: Seconds | None = None
    renewed_at: Seconds | None = None
    problem: str = Field("", pattern="^[a-z0-9_]{0,64}$")
    dropped: bool = False  # it is renewed no more


Preflight = Annotated[list[StepIn], Field(max_length=40)]


class ReportIn(Body):
    source: Literal["hosted", "byov"]
    wrapped: bool = False
    key_name: Printable = Field("", max_length=200)
    key_version: int = Field(0, ge=0, le=MAX_INT)
    sealed_at: Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST)] | None = None
    environment: uuid.UUID | None = None
    revision: int = Field(0, ge=0, le=MAX_BIG)
    values: int = Field(0, ge=0, le=MAX_INT)
    verdict: str = Field(pattern="^[a-z0-9_:]{1,64}$")
    sentence: Printable = Field("", max_length=300)
    settings_revision: int = Field(1, ge=0, le=MAX_INT)
    rekey_revision: int = Field(0, ge=0, le=MAX_INT)  # 0 from a kms-runtime that does not know of it
    preflight: Preflight = []
    token: TokenFacts | None = None
    variables: Annotated[list[Annotated[Printable, Field(max_length=128)]], Field(max_length=20)] = []
    attachment_revision: int = Field(0, ge=0, le=MAX_INT)
    version: Printable = Field("", max_length=32)
    host_name: Printable = Field("", max_length=253)


@router.post("report", auth=sync_credential)
def report(request: NodeRequest, body: ReportIn) -> HttpResponse:
    """What the container's store holds now, and what is wrong with it, in the runtime's words."""
    node = request.auth.node
    account = node.atom.account
    environment = Environment.objects.filter(pk=body.environment, account=account).first() if body.environment else None
    changes = body.model_dump(exclude={"environment", "attachment_revision", "version", "host_name"})
    now = timezone.now()
    with transaction.atomic():
        ContainerReport.objects.update_or_create(
            node=node,
            defaults={
                **changes,
                "environment": environment,
                "reported_at": now,
                "preflight_at": now if body.preflight else None,
            },
        )
        Node.objects.filter(pk=node.pk).update(
            last_seen_at=now, version=body.version or node.version, host_name=body.host_name or node.host_name
        )
    return HttpResponse(status=204)
