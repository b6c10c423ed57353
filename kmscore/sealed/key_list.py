"""The key list: which Ed25519 key (RFC 8032) each process of the portal signs with, under the signature of the portal's root key.

Pure. The root key's private half is the operator's alone; its public half is given to every process and container. Everybody
verifies with the newest list, so a key that is not in it, or is dead, has signed nothing.

A list is the sequence ``("kms-keys/1", serial, restores, made at, process, key id, public half, state, process, …)``; a signed
one the sequence (list, signature of 64 bytes), as text in base64. Numbers are 8 bytes, big-endian; texts are UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kmscore.sealed.sequence import SequenceBroken, parts_of, sequence

FORMAT: Final = b"kms-keys/1"
KEY_BYTES: Final = 32
State = Literal["verifying", "signing", "dead"]
_HEAD: Final = 4  # parts before the first key
_PER_KEY: Final = 4
_MOST_KEYS: Final = 1_000


class KeyListBroken(Exception):
    """Not a key list of this format, or not under the root key's signature."""


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A process's public half. ``signing``: what is signed now; ``verifying``: listed before its process signs with it, or
    after another took its place; ``dead``: it verifies only what nobody may change (audit entries, certificates)."""

    process: str
    public: bytes
    state: State

    @property
    def key_id(self) -> bytes:
        return key_id_of(self.public)


@dataclass(frozen=True, slots=True)
class KeyList:
    """serial: grows with every list. restores: how often a vault's snapshot was put back. made_at: seconds since 1970."""

    serial: int
    restores: int
    made_at: int
    keys: tuple[ListedKey, ...]

    def of(self, process: str, *states: State) -> list[ListedKey]:
        """A process's keys in these states, in the order they were listed."""
        return [key for key in self.keys if key.process == process and key.state in states]

    def followed_by(self, keys: Iterable[ListedKey], made_at: int, *, restores: int | None = None) -> KeyList:
        """The next list."""
        more = self.restores if restores is None else restores
        return replace(self, serial=self.serial + 1, restores=more, made_at=made_at, keys=tuple(keys))

    def signed(self, process: str, message: bytes, signature: bytes) -> bool:
        """Whether a key of this process that is not dead signed the message. signature: the key's id, then 64 bytes."""
        keys = {key.key_id: key for key in self.of(process, "signing", "verifying")}
        return signature[:8] in keys and is_signed(keys[signature[:8]].public, message, signature[8:])

    def encode(self) -> bytes:
        numbers = (self.serial, self.restores, self.made_at)
        parts = [FORMAT, *(number.to_bytes(8, "big") for number in numbers)]
        for key in self.keys:
            parts += [key.process.encode(), key.key_id, key.public, key.state.encode()]
        return sequence(parts)


def key_id_of(public: bytes) -> bytes:
    """The 8 bytes that name a key beside its signatures: of SHA-256 over its public half."""
    return hashlib.sha256(public).digest()[:8]


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the private half of this key signed the message (Ed25519). public: 32 bytes; signature: 64."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign_key_list(root: Ed25519PrivateKey, keys: KeyList) -> str:
    """The text that the vault and every process's directory hold."""
    encoded = keys.encode()
    return base64.b64encode(sequence([encoded, root.sign(encoded)])).decode()


def read_key_list(root_public: bytes, text: str) -> KeyList:
    """The list in such a text. Raises KeyListBroken; nothing is read of what the root key has not signed."""
    try:
        encoded, signature = parts_of(base64.b64decode(text.strip(), validate=True))
        Ed25519PublicKey.from_public_bytes(root_public).verify(signature, encoded)
        return _decode(parts_of(encoded))
    except InvalidSignature:
        raise KeyListBroken("The key list is not signed by this portal's root key.") from None
    except (binascii.Error, SequenceBroken, ValueError):
        raise KeyListBroken("This is not a key list of the portal.") from None


def _decode(parts: list[bytes]) -> KeyList:
    head, rest = parts[:_HEAD], parts[_HEAD:]
    if len(head) < _HEAD or head[0] != FORMAT or len(rest) % _PER_KEY or len(rest) > _PER_KEY * _MOST_KEYS:
        raise ValueError("another format")
    keys = []
    for at in range(0, len(rest), _PER_KEY):
        process, key_id, public, state = rest[at : at + _PER_KEY]
        if len(public) != KEY_BYTES or key_id != key_id_of(public) or state.decode() not in get_args(State):
            raise ValueError("a key that is none")
        keys.append(ListedKey(process.decode(), public, state.decode()))  # type: ignore[arg-type]  # looked at above
    if len({key.key_id for key in keys}) < len(keys):
        raise ValueError("a key twice")
    serial, restores, made_at = (int.from_bytes(number, "big") for number in head[1:])
    return KeyList(serial, restores, made_at, tuple(keys))
