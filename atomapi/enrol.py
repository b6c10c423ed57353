"""Enrolment and hand-over of vault credentials (DESIGN.md §2). Nothing answered here opens anything by itself: what a node
gets are single-use tokens it unwraps at the vault whose address only its own command line names.
"""

import binascii
import uuid
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema, Status
from ninja.security import HttpBearer
from pydantic import AfterValidator, Field

from atomapi.auth import NodeRequest, enrolling_credential, sync_credential
from atomapi.body import Body
from kmscore.refused import Refused
from vaults.logins import enrolment as enrolments
from vaults.models import Enrolment

router = Router()
POLL_SECONDS = 1.0


def _printable(text: str) -> str:
    """What a machine says of itself is shown to people and kept in the database: no control characters."""
    if not text.isprintable():
        raise ValueError("has control characters")
    return text


Printable = Annotated[str, AfterValidator(_printable)]


class InstallerBearer(HttpBearer):
    """Takes the installer token as it is; `begin` judges it, so that each refusal has its own code."""

    def authenticate(self, request: HttpRequest, token: str) -> str:
        return token


class EnrolIn(Body):
    sync_hash: str = Field(pattern="^[0-9a-f]{64}$")
    settings_hash: str = Field(pattern="^[0-9a-f]{64}$")
    host_name: Printable = Field("", max_length=253)
    version: Printable = Field("", max_length=32)


class CredentialsIn(Body):
    reason: str = Field(pattern="^(attachment|renewal|lost)$")


class SyncCredentialIn(Body):
    sync_hash: str = Field(pattern="^[0-9a-f]{64}$")


class ConfirmIn(Body):
    accessors: list[str] = Field(min_length=1, max_length=4)


class IntrusionIn(Body):
    mount: str = Field(pattern="^(atoms|environments)$")


class Waiting(Schema):
    enrolment: uuid.UUID
    node: uuid.UUID
    state: str
    sentence: str
    poll_after: float


class Reference(Schema):
    id: uuid.UUID
    name: str


class AccountReference(Schema):
    id: uuid.UUID
    code: str


class AtomReference(Reference):
    type: str


class GrantOut(Schema):
    mount: str
    recipient: uuid.UUID
    role_id_token: str
    secret_id_token: str
    seconds: int


class CredentialsOut(Schema):
    enrolment: uuid.UUID
    node: uuid.UUID
    account: AccountReference
    atom: AtomReference
    environment: Reference | None
    attachment_revision: int
    grants: list[GrantOut]


def _waiting(enrolment: Enrolment) -> Status[Any]:
    answer = {
        "enrolment": enrolment.pk,
        "node": enrolment.node_id,
        "state": enrolment.state,
        "sentence": "The portal is preparing the vault credentials.",
        "poll_after": POLL_SECONDS,
    }
    return Status(202, answer)


def _enrolment(request: NodeRequest, enrolment_id: uuid.UUID) -> Enrolment:
    """The node's own enrolment. Raises Refused for any other id, existing or not."""
    found = Enrolment.objects.select_related("node__atom__account__kms", "environment").filter(
        pk=enrolment_id, node=request.auth.node_id
    )
    enrolment = found.first()
    if enrolment is None or (enrolment.pk, enrolment.node_id) != (enrolment_id, request.auth.node_id):
        raise Refused("enrolment_unknown", "This enrolment is not known. Start it again.")
    if enrolment.state == Enrolment.State.INTRUDED:
        raise Refused("enrolment_intruded", "This enrolment was stopped: its credentials were opened by somebody else.")
    return enrolment


@router.post("enrol", auth=InstallerBearer(), response={202: Waiting})
def enrol(request: NodeRequest, body: EnrolIn) -> Status[Any]:
    """Show an installer token and the hashes of the credentials this machine made for itself."""
    enrolment = enrolments.begin(
        str(request.auth),
        sync_hash=binascii.unhexlify(body.sync_hash),
        settings_hash=binascii.unhexlify(body.settings_hash),
        host_name=body.host_name,
        version=body.version,
    )
    return _waiting(enrolment)


@router.post("credentials", auth=sync_credential, response={202: Waiting})
def credentials(request: NodeRequest, body: CredentialsIn) -> Status[Any]:
    """Ask for vault credentials again."""
    return _waiting(enrolments.request_credentials(request.auth.node, reason=body.reason))


@router.post("credentials/sync", auth=sync_credential)
def sync_credential_replaced(request: NodeRequest, body: SyncCredentialIn) -> HttpResponse:
    """From now on the node shows another sync credential, whose hash this is."""
    enrolments.replace_sync_credential(request.auth.node, binascii.unhexlify(body.sync_hash))
    return HttpResponse(status=204)


@router.get("enrolments/{enrolment_id}", auth=enrolling_credential, response={200: CredentialsOut, 202: Waiting})
def delivery(request: NodeRequest, enrolment_id: uuid.UUID) -> Status[Any]:
    """The wrapped credentials once the worker is done; every answer carries new secret_ids."""
    enrolment = _enrolment(request, enrolment_id)
    grants = enrolments.deliver(enrolment)
    if grants is None:
        return _waiting(enrolment)
    atom, environment = enrolment.node.atom, enrolment.environment
    answer = {
        "enrolment": enrolment.pk,
        "node": enrolment.node_id,
        "account": {"id": atom.account_id, "code": atom.account.verified(pk=atom.account_id).code},
        "atom": {"id": atom.pk, "name": atom.name, "type": atom.type},
        "environment": {"id": environment.pk, "name": environment.name} if environment else None,
        "attachment_revision": enrolment.attachment_revision,
        "grants": [GrantOut(**{name: getattr(grant, name) for name in GrantOut.model_fields}) for grant in grants],
    }
    return Status(200, answer)


@router.post("enrolments/{enrolment_id}/again", auth=enrolling_credential, response={202: Waiting})
def again(request: NodeRequest, enrolment_id: uuid.UUID) -> Status[Any]:
    """The wrapped role_ids ended, or were unwrapped by a process that died: make new ones."""
    enrolment = _enrolment(request, enrolment_id)
    enrolments.request_again(enrolment)
    return _waiting(enrolment)


@router.post("enrolments/{enrolment_id}/confirm", auth=enrolling_credential)
def confirm(request: NodeRequest, enrolment_id: uuid.UUID, body: ConfirmIn) -> HttpResponse:
    """The node has logged in with the secret_ids of these accessors; all its others are destroyed."""
    enrolments.confirm(_enrolment(request, enrolment_id), body.accessors)
    return HttpResponse(b"{}", content_type="application/json")


@router.post("enrolments/{enrolment_id}/intrusion", auth=enrolling_credential)
def intrusion(request: NodeRequest, enrolment_id: uuid.UUID, body: IntrusionIn) -> HttpResponse:
    """A wrapping token this node never used was used up within its time."""
    enrolments.report_intrusion(_enrolment(request, enrolment_id))
    return HttpResponse(b"{}", status=202, content_type="application/json")
