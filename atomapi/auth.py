"""Who is asking: a node by one of its two credentials. One query finds it, its Atom, and where that is attached."""

from typing import Any

import structlog
from django.http import HttpRequest
from ninja.security import HttpBearer

from accounts.rows import RowTampered
from atomapi import allowance
from atoms.models import Node, NodeCredential, token_hash
from atoms.revocation import note_refused

log = structlog.get_logger()


class NodeRequest(HttpRequest):
    """A request of an authenticated node; `auth` is its credential, with node, Atom, account and environment loaded."""

    auth: NodeCredential


class NodeBearer(HttpBearer):
    """A node's credential of one of `kinds`; enrolled nodes only, unless `enrolling`.

    Raises RowTampered for rows that were changed past the portal: a machine is not told that it is unknown, which it may not be.
    """

    def __init__(self, *kinds: str, enrolling: bool = False) -> None:
        super().__init__()
        self.kinds = kinds
        self.states = (Node.State.ENROLLED, Node.State.ENROLLING) if enrolling else (Node.State.ENROLLED,)

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        found = NodeCredential.objects.select_related(
            "node__atom__account__kms", "node__atom__attached_to", "node__atom__kms_settings"
        ).filter(token_hash=token_hash(token), kind__in=self.kinds, node__state__in=self.states)
        credential = next(iter(found), None)  # the hash is unique; first() would add an ordering
        asked = (
            credential is not None
            and bytes(credential.token_hash) == token_hash(token)
            and credential.kind in self.kinds
        )
        if credential is None or not asked:
            note_refused(token_hash(token))
            return None
        if not credential.is_valid():
            log.error("node_credential_forged", credential=str(credential.pk))
            raise RowTampered(f"The rows of credential {credential.pk} do not bear the portal's signature.")
        allowance.take(credential.node_id)
        return credential


enrolled_credential = NodeBearer("sync", "settings")
settings_credential = NodeBearer("settings")
sync_credential = NodeBearer("sync")
enrolling_credential = NodeBearer("sync", enrolling=True)
