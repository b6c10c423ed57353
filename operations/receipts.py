"""The receipt of an operation: what was asked, by whom, and what came of it, under the portal's signature."""

import hashlib
import hmac
from typing import Any

import orjson
from django.conf import settings

from accounts import audit
from operations.models import Operation


def receipt_of(operation: Operation) -> dict[str, Any]:
    """A finished operation as JSON-able values. `signature`: HMAC-SHA-256 in hex over the rest, keys sorted, under the audit
    key. `audit` names the newest entry of the account's log, so that a receipt also dates the log."""
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
    return content | {"signature": _signature(content)}


def has_valid_mac(receipt: dict[str, Any]) -> bool:
    """Whether the portal wrote this receipt as it is."""
    content = {name: value for name, value in receipt.items() if name != "signature"}
    return hmac.compare_digest(str(receipt.get("signature", "")), _signature(content))


def _signature(content: dict[str, Any]) -> str:
    text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hmac.digest(settings.AUDIT_KEY, b"receipt\0" + text, hashlib.sha256).hex()
