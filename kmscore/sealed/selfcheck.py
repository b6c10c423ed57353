"""The self-check's formats: where a test value belongs, and how a container shows that it opened it.

Pure. The answer is keyed with the value's SHA-256, which is all the portal keeps of it: whoever answers has opened the value
or read the portal's database, and the value is worth nothing but the answer.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from kmscore.sealed.envelope import Place

PATH: Final = ("selfcheck",)
CHALLENGE_BYTES: Final = 32
_PURPOSE: Final = b"kmsportal/1 selfcheck"


def selfcheck_place(account: str, environment: str, revision: int, data_key_id: str) -> Place:
    """Where an environment's test value belongs. Ids as lower-case UUIDs; revision counts the test values of the environment."""
    return Place(account, environment, "selfcheck", PATH, revision, data_key_id)


def digest(value: bytes) -> bytes:
    """What the portal keeps of a test value: 32 bytes."""
    return hashlib.sha256(value).digest()


def answer(value_digest: bytes, challenge: bytes, node: str) -> bytes:
    """HMAC-SHA-256 over the challenge and the node's id, 32 bytes: one container's answer is no use to another."""
    return hmac.digest(value_digest, _PURPOSE + challenge + node.encode(), hashlib.sha256)


def is_answer(given: bytes, value_digest: bytes, challenge: bytes, node: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given, answer(value_digest, challenge, node))
