"""What a runtime fetches. The hot answers are bytes built directly from the rows."""

import hashlib
from binascii import b2a_base64
from datetime import timedelta
from typing import Any

import orjson
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from ninja import Router

from accounts import audit
from atomapi.auth import NodeRequest, sync_credential
from atoms.models import Atom, Environment, Node
from extensions.models import EnvironmentManifest, ExtensionValue, ProcessProperty
from vaults.models import KmsAccount

router = Router()
SEEN_EVERY = timedelta(seconds=10)  # a 304 writes "last seen" at most this often
FORMAT = 1


@router.get("sync", auth=sync_credential)
def sync(request: NodeRequest, environment: str = "", since: int = 0) -> HttpResponse:
    """Everything the Atom's environment holds, or only what changed after revision `since` of that environment.

    304 when the runtime's ETag is current. `environment` is the id the runtime holds; another one counts as nothing held.
    """
    node = request.auth.node
    atom = node.atom
    KmsAccount.refuse_inactive(atom.account)
    attached = atom.environment
    tag = _etag(atom, attached)
    if request.headers.get("If-None-Match") == tag:
        seen(node)
        return HttpResponse(status=304, headers={"ETag": tag})
    since = since if attached and environment == str(attached.pk) else 0
    body = _body(atom, attached, since)
    _delivered(node, attached)
    return HttpResponse(body, content_type="application/json", headers={"ETag": tag, "Cache-Control": "no-store"})


def _settings_revision(atom: Atom) -> int:
    settings = getattr(atom, "kms_settings", None)
    return settings.revision if settings else 1


def _etag(atom: Atom, attached: Environment | None) -> str:
    state = (
        f"{FORMAT}|{atom.pk}|{atom.name}|{atom.attachment_revision}|{_settings_revision(atom)}|"
        f"{attached.pk if attached else ''}|{attached.name if attached else ''}|"
        f"{attached.extensions_revision if attached else 0}"
    )
    if atom.rekey_revision:
        state += f"|{atom.rekey_revision}"
    return f'"{hashlib.sha256(state.encode()).hexdigest()[:32]}"'


def _body(atom: Atom, attached: Environment | None, since: int) -> bytes:
    answer: dict[str, Any] = {
        "format": FORMAT,
        "account": atom.account_id,
        "atom": {"id": atom.pk, "name": atom.name, "type": atom.type},
        "attachment_revision": atom.attachment_revision,
        "settings_revision": _settings_revision(atom),
        "rekey_revision": atom.rekey_revision,
        "environment": None,
        "revision": 0,
        "manifest": None,
        "values": [],
        "plain": [],
    }
    if attached is not None:
        answer |= {"environment": {"id": attached.pk, "name": attached.name}, "revision": attached.extensions_revision}
        answer |= _content(attached, since)
    return orjson.dumps(answer)


def _content(environment: Environment, since: int) -> dict[str, Any]:
    """Manifest, sealed and plain values: three queries, whatever their number. A save between them is noticed by the
    runtime (the manifest would not match) and asked for again."""
    rows = (
        ExtensionValue.objects.filter(environment=environment, revision__gt=since)
        .filter(data_key__lost_at=None)  # nobody can open what is left out; the manifest says so
        .exclude(form="component", field__encrypted=True)
        .order_by()
        .values_list(
            *("form", "field__connection_id", "field__key", "revision", "data_key_id", "data_key__document"),
            *("sealed", "plain"),
        )
    )
    values: list[Any] = []
    plain: list[Any] = []
    for form, connection, key, revision, data_key, document, sealed, text in rows:
        path = ("connection", connection, key)
        if form == "sealed":
            values.append((path, revision, data_key, document, _text(sealed)))
        else:
            plain.append((path, revision, text))
    properties = ProcessProperty.objects.filter(environment=environment, revision__gt=since).order_by()
    manifest = (
        EnvironmentManifest.objects.filter(environment=environment)
        .exclude(sealed=None)
        .values_list("data_key_id", "data_key__document", "sealed")
        .first()
    )
    plain += [(("property", name), at, text) for name, at, text in properties.values_list("name", "revision", "plain")]
    sealed_manifest = None
    if manifest is not None:
        sealed_manifest = {
            "data_key": manifest[0],
            "document": manifest[1],
            "sealed": _text(manifest[2]),
        }
    return {"manifest": sealed_manifest, "values": values, "plain": plain}


def _text(sealed: Any) -> str:
    """Base64; twice as quick as the base64 module's own wrapper."""
    return b2a_base64(sealed, newline=False).decode("ascii")


def seen(node: Node) -> None:
    """Note the contact, unless one was noted a moment ago."""
    now = timezone.now()
    if node.last_seen_at is None or now - node.last_seen_at > SEEN_EVERY:
        Node.objects.filter(pk=node.pk).update(last_seen_at=now)


def _delivered(node: Node, environment: Environment | None) -> None:
    """Remember what was handed out; content a node had not been given before is an audit entry."""
    seen(node)
    if environment is None or environment.extensions_revision == 0:
        return
    known = (
        node.delivered_environment_id == environment.pk and node.delivered_revision >= environment.extensions_revision
    )
    if known:
        return
    with transaction.atomic():
        Node.objects.filter(pk=node.pk).update(
            delivered_revision=environment.extensions_revision, delivered_environment=environment
        )
        audit.record(
            node.atom.account,
            actor=f"container {node}",
            type="as.extensions",
            action="DELIVER",
            subject_id=environment.pk,
            message=f"Revision {environment.extensions_revision} of {environment.name} delivered to {node.atom.name}",
            properties={"node": str(node.pk), "delivered": environment.extensions_revision},
        )
