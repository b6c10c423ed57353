"""A half of a hand-over opens with the key of its request, for exactly what it was sealed for, and with nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kmscore.sealed.handover import RECEIVING_BYTES, HandoverBroken, Purpose, ReceivingKey, seal_half
from kmscore.sealed.request import HandoverSubject
from tests.kmscore.sealed.places import PLACE

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "handover.json").read_text())
PURPOSE = Purpose("role_ids", PLACE, UUID(int=10), b"the request's bytes")
LOGINS = {"atoms": "role-id-a", "environments": "role-id-e"}


class KnownKey(ReceivingKey):
    """The vector's."""

    def __init__(self) -> None:
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes(range(64)))
        self._x25519 = X25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_what_was_sealed_for_a_key_opens_with_it() -> None:
    key = ReceivingKey()
    assert len(key.public) == RECEIVING_BYTES
    assert key.open(seal_half(key.public, PURPOSE, LOGINS), PURPOSE) == LOGINS


def test_what_an_earlier_version_sealed_opens() -> None:
    key = KnownKey()
    assert key.public.hex() == VECTOR["public"]
    assert key.open(bytes.fromhex(VECTOR["sealed"]), PURPOSE) == LOGINS


def test_another_key_opens_nothing() -> None:
    with pytest.raises(HandoverBroken):
        ReceivingKey().open(seal_half(ReceivingKey().public, PURPOSE, LOGINS), PURPOSE)


OTHERS = [
    replace(PURPOSE, half="secret_ids"),
    replace(PURPOSE, environment=None),
    replace(PURPOSE, environment=UUID(int=11)),
    replace(PURPOSE, request=b"another request"),
    *(
        replace(PURPOSE, place=replace(PLACE, **{name: UUID(int=99)}))
        for name in ("account", "atom", "node", "enrolment")
    ),
    *(replace(PURPOSE, place=replace(PLACE, **{name: 99})) for name in ("account_number", "atom_number")),
]


@pytest.mark.parametrize("other", OTHERS)
def test_a_half_is_for_one_purpose(other: Purpose) -> None:
    key = ReceivingKey()
    with pytest.raises(HandoverBroken):
        key.open(seal_half(key.public, PURPOSE, LOGINS), other)


def test_every_part_of_a_place_is_bound() -> None:
    bound = {
        name
        for other in OTHERS
        for name in HandoverSubject.__slots__
        if getattr(other.place, name) != getattr(PLACE, name)
    }
    assert bound == set(HandoverSubject.__slots__)


@pytest.mark.parametrize("damage", [b"", b"short", b"\x00" * 1_300])
def test_what_is_no_half_is_refused_by_name(damage: bytes) -> None:
    with pytest.raises(HandoverBroken):
        ReceivingKey().open(damage, PURPOSE)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        bytes(RECEIVING_BYTES - 1),
        bytes(RECEIVING_BYTES + 1),
        bytes(RECEIVING_BYTES),  # the X25519 half is a point of low order
        b"\xff" * 1_184 + ReceivingKey().public[1_184:],  # not reduced (FIPS 203, 7.2)
    ],
)
def test_nothing_is_sealed_for_a_key_that_is_none(key: bytes) -> None:
    with pytest.raises(HandoverBroken):
        seal_half(key, PURPOSE, LOGINS)
