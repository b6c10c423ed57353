"""The certificate of a shredding: what was destroyed, on whose word, with which proof, and what remains elsewhere.

It says what the shred worker and the people signed; a name whose row was changed past the portal is not repeated.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.models import Account, User
from atoms.models import Atom, Environment, Node
from operations.models import Operation
from vaults import kms_audit
from vaults.keys import disable
from vaults.models import ShredCertificate, ShredProof


def certify(operation: Operation) -> None:
    """Write the certificate, once."""
    with transaction.atomic():
        disable.locked(operation.account)
        if ShredCertificate.objects.filter(operation=operation).exists():
            return
        message, done = "The keys of this account are destroyed", str(operation.pk)
        kms_audit.record(operation.account, "SHREDDED", message, actor="shred worker", operation=done)
        now = timezone.now()
        document = _document(operation, now)
        certificate = ShredCertificate(account=operation.account, operation=operation, made_at=now, document=document)
        certificate.save(force_insert=True)


def _document(operation: Operation, now: datetime) -> dict[str, Any]:
    account = operation.account
    seq, fingerprint = audit.head(account)
    account.verified()
    places: list[Environment | Atom] = [*account.environments.all(), *account.atoms.all()]
    names = {place.pk: place.name if place.has_valid_signature() else "its name was changed" for place in places}
    proofs = [proof for proof in operation.shred_proofs.select_related("recipient") if proof.has_valid_signature()]
    begun = account.audit_entries.filter(
        type="as.atom.kms", action="SHRED", properties__operation=str(operation.pk)
    ).first()
    told = begun.properties if begun is not None and begun.is_genuine else {}
    return {
        "format": 1,
        "account": {"id": str(account.pk), "code": account.code, "name": account.name},
        "operation": str(operation.pk),
        "requested_by": _named(operation.requested_by) if operation.requested_by else "the end of the grace period",
        "approved_by": told.get("approved_by", []),
        "disabled_at": told.get("disabled_at"),
        "shredded_at": now.isoformat(),
        "keys": [
            {
                "recipient": str(proof.recipient_id),
                "kind": proof.recipient.kind,
                "name": names.get(proof.recipient_id, "deleted before"),
                "versions": proof.recipient.in_transit_version,
                "data_keys": proof.data_keys,
                "proof": _proof(proof),
            }
            for proof in proofs
        ],
        "data_keys": sum(proof.data_keys for proof in proofs),
        "audit": {"seq": seq, "fingerprint": fingerprint},
        "vault_snapshots_expire": (now + timedelta(days=settings.BACKUP_RETENTION_DAYS)).isoformat(),
        "containers": _containers(account),
    }


def _named(person: User) -> str:
    return person.email if person.has_valid_signature() else f"person {person.pk}, whose address was changed"


def _proof(proof: ShredProof) -> dict[str, Any]:
    if not proof.data_key:
        return {"note": "nothing was ever sealed for it"}
    return {"data_key": str(proof.data_key), "rewrap_before": proof.before, "rewrap_after": proof.after}


def _containers(account: Account) -> list[dict[str, Any]]:
    """What remains out of the portal's reach, by each container's last report."""
    nodes = Node.objects.filter(Q(report__values__gt=0), atom__account=account).select_related("atom", "report")
    return [
        {
            "atom": node.atom.name,
            "node": str(node),
            "values": node.report.values,
            "sealed_by": "hosted vault" if node.report.source == "hosted" else "own vault",
            "plaintext_key_on_disk": not node.report.wrapped,
            "reported_at": node.report.reported_at.isoformat(),
        }
        for node in nodes.order_by("atom__name", "pk")
    ]
