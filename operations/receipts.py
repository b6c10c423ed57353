"""The receipt of an operation: what was asked, by whom, and what came of it, under web's signature."""

from typing import Any

from accounts import audit, signing
from accounts.rows import WEB, canonical_json
from kmscore.sealed.sequence import sequence
from operations.models import Operation


def receipt_of(operation: Operation) -> dict[str, Any]:
    """A finished operation as JSON-able values. `signature`: web's, in hex, over the rest with its names sorted; whoever has
    the key list verifies it. `audit` names the newest entry of the account's log, so that a receipt also dates the log."""
    seq, fingerprint = audit.head(operation.account)
    content = {
        "format": 1,
        "account": {"code": operation.account.code, "name": operation.account.name},
        "operation": str(operation.pk),
        "kind": operation.kind,
        "title": operation.title,
        "subject": str(operation.subject_id),
        "requested_by": operation.requested_by.email if operation.requested_by else "a container or the portal",
        "requested_at": operation.requested_at.isoformat(),
        "started_at": operation.started_at.isoformat() if operation.started_at else None,
        "finished_at": operation.finished_at.isoformat() if operation.finished_at else None,
        "state": operation.state,
        "done": operation.done,
        "total": operation.total,
        "failed": operation.failed,
        "attempts": operation.attempts,
        "error": operation.error_sentence,
        "details": operation.details,
        "audit": {"seq": seq, "fingerprint": fingerprint},
    }
    return content | {"signature": signing.sign("web", _signed_bytes(content)).hex()}


def has_valid_signature(receipt: dict[str, Any]) -> bool:
    """Whether the portal wrote this receipt as it is."""
    content = {name: value for name, value in receipt.items() if name != "signature"}
    try:
        signature = bytes.fromhex(str(receipt.get("signature", "")))
    except ValueError:
        return False
    return signing.signer_of(_signed_bytes(content), signature, for_good=True) in WEB


def _signed_bytes(content: dict[str, Any]) -> bytes:
    return sequence([b"kms-receipt/1", canonical_json(content)])
