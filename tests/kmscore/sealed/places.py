"""Ids and keys that the tests of nodes, requests and hand-overs share."""

from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kmscore.sealed.key_list import KeyList, ListedKey, key_id_of
from kmscore.sealed.request import HandoverSubject

NODE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WEB_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
WORKER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
PLACE = HandoverSubject(*(UUID(int=n) for n in (1, 2, 3, 4)), account_number=5, atom_number=6)
LIST = KeyList(
    1,
    0,
    0,
    (
        ListedKey("web", WEB_KEY.public_key().public_bytes_raw(), "signing"),
        ListedKey("worker", WORKER_KEY.public_key().public_bytes_raw(), "signing"),
    ),
)


def portal_signature(key: Ed25519PrivateKey, message: bytes) -> bytes:
    return key_id_of(key.public_key().public_bytes_raw()) + key.sign(message)
