"""The hand-over: a node's logins, sealed by worker and issuer to the key that it made for this one request.

Pure. HPKE (RFC 9180), base mode, with X-Wing (ML-KEM-768 and X25519), HKDF-SHA256 and AES-256-GCM. What a half is for is its
``info``: the sequence ``("kmsportal/handover/1", half, account, Atom, node, enrolment, account's number, Atom's number,
environment, SHA-256 of the request)``. A sealed half is the encapsulation (1,120 bytes) and the ciphertext of the sequence
``(mount, role_id or wrapping token, mount, …)``.

Sealing with a public half proves nobody: who made a half is told by the vault, when what is in it logs in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from kmscore.sealed.request import HandoverSubject
from kmscore.sealed.sequence import SequenceBroken, parts_of, sequence, text_in

HANDOVER: Final = b"kmsportal/handover/1"
RECEIVING_BYTES: Final = 1_184 + 32
_MLKEM_BYTES: Final = 1_184
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
Half = Literal["role_ids", "secret_ids"]


class HandoverBroken(Exception):
    """Not a half of this hand-over, or sealed to another key; or a receiving key that is none."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a half is sealed for. environment: where the Atom is attached, None while it is nowhere. request: its bytes."""

    half: Half
    place: HandoverSubject
    environment: UUID | None
    request: bytes

    def encode(self) -> bytes:
        environment = self.environment.bytes if self.environment else b""
        asked = hashlib.sha256(self.request).digest()
        return sequence([HANDOVER, self.half.encode(), *self.place.parts(), environment, asked])


class ReceivingKey:
    """Made for one request and held in memory alone, so that nothing long-lived opens a former hand-over."""

    def __init__(self) -> None:
        self._mlkem, self._x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        """RECEIVING_BYTES, as X-Wing has them."""
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()

    def open(self, sealed: bytes, purpose: Purpose) -> dict[str, str]:
        """{mount: role_id or wrapping token}. Raises HandoverBroken."""
        private = MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
        try:
            parts = list(map(text_in, parts_of(_SUITE.decrypt(sealed, private, info=purpose.encode()))))
            return dict(zip(parts[::2], parts[1::2], strict=True))
        except (InvalidTag, SequenceBroken, ValueError):
            pass
        raise HandoverBroken("This hand-over is not this container's, or was changed on the way.")


def seal_half(receiving_key: bytes, purpose: Purpose, logins: Mapping[str, str]) -> bytes:
    """logins: {mount: role_id or wrapping token}. Raises HandoverBroken for a key that is none."""
    parts = [part.encode() for pair in sorted(logins.items()) for part in pair]
    raw_mlkem, raw_x25519 = receiving_key[:_MLKEM_BYTES], receiving_key[_MLKEM_BYTES:]
    try:
        public = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw_mlkem), X25519PublicKey.from_public_bytes(raw_x25519)
        )
        return _SUITE.encrypt(sequence(parts), public, info=purpose.encode())
    except ValueError:  # of a point of low order, too, which is seen only when something is sealed
        pass
    raise HandoverBroken("This is not a receiving key.")
