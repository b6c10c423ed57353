"""An Atom's KMS settings, sealed for it, and how their use went.

The settings credential opens these two doors and no others: with a wrapped encryption key it lies beside the store, so what
it reaches must be of no use to a thief.
"""

from binascii import b2a_base64
from typing import Any

import orjson
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from ninja import Router
from pydantic import Field

from atomapi.auth import NodeRequest, enrolled_credential, settings_credential
from atomapi.body import Body
from atomapi.enrol import Printable
from atomapi.report import MAX_INT, Preflight, TokenFacts
from atomapi.sync import FORMAT, seen
from atoms.models import Node
from vaults.models import ContainerReport, KmsAccount, KmsSettings, PropertiesFile
from vaults.panel.settings import file_of, settings_of, with_settings

router = Router()


@router.get("settings", auth=enrolled_credential)
def settings(request: NodeRequest) -> HttpResponse:
    """{format, account, account_code, atom, revision, settings, file}; both sealed parts null until somebody saved them."""
    node = request.auth.node
    KmsAccount.refuse_inactive(node.atom.account)
    atom = with_settings(node.atom)
    current, stored = settings_of(atom), file_of(atom)
    answer: dict[str, Any] = {
        "format": FORMAT,
        "account": node.atom.account_id,
        "account_code": node.atom.account.verified(pk=node.atom.account_id).code,
        "atom": node.atom_id,
        "revision": current.revision,
        "settings": _sealed(current) if current.sealed else None,
        "file": None,
    }
    if stored is not None:
        answer["file"] = {"revision": stored.revision} | _sealed(stored)
    seen(node)
    return HttpResponse(orjson.dumps(answer), content_type="application/json", headers={"Cache-Control": "no-store"})


def _sealed(row: KmsSettings | PropertiesFile) -> dict[str, object]:
    assert row.data_key is not None
    assert row.sealed is not None
    text = b2a_base64(row.sealed, newline=False).decode("ascii")
    return {"data_key": row.data_key_id, "document": row.data_key.document, "sealed": text}


class VerdictIn(Body):
    verdict: str = Field(pattern="^[a-z0-9_:]{1,64}$")
    sentence: Printable = Field("", max_length=300)
    settings_revision: int = Field(1, ge=0, le=MAX_INT)
    preflight: Preflight = []
    token: TokenFacts | None = None


@router.post("settings/verdict", auth=settings_credential)
def verdict(request: NodeRequest, body: VerdictIn) -> HttpResponse:
    """For a container that cannot open its store: why. Changes nothing that was reported of what the store holds."""
    node, now = request.auth.node, timezone.now()
    KmsAccount.refuse_inactive(node.atom.account)
    told = {
        "reported_at": now,
        "verdict": body.verdict,
        "sentence": body.sentence,
        "preflight": [step.model_dump() for step in body.preflight],
        "preflight_at": now if body.preflight else None,
        "token": body.token.model_dump() if body.token else None,
    }
    first = told | {"settings_revision": body.settings_revision}
    with transaction.atomic():
        ContainerReport.objects.update_or_create(node=node, defaults=told, create_defaults=first)
        Node.objects.filter(pk=node.pk).update(last_seen_at=now)
    return HttpResponse(status=204)
