"""The key list: read only as the root key signed it, and its bytes never change."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kmscore.sealed.key_list import KeyList, KeyListBroken, ListedKey, read_key_list, sign_key_list
from kmscore.sealed.sequence import SequenceBroken, parts_of, sequence

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "key_list.json").read_text())
ROOT = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = ROOT.public_key().public_bytes_raw()
LIST = KeyList(
    3, 1, 1_790_000_000, (ListedKey("web", b"\x01" * 32, "signing"), ListedKey("worker", b"\x02" * 32, "dead"))
)


def signed(encoded: bytes, root: Ed25519PrivateKey = ROOT) -> str:
    return base64.b64encode(sequence([encoded, root.sign(encoded)])).decode()


def test_what_the_root_key_signed_is_read_again() -> None:
    assert read_key_list(PUBLIC, sign_key_list(ROOT, LIST)) == LIST
    assert read_key_list(PUBLIC, sign_key_list(ROOT, LIST) + "\n") == LIST, "a file may end with a line's end"


def test_the_bytes_are_those_of_the_vector() -> None:
    assert LIST.encode().hex() == VECTOR["list"]
    assert sign_key_list(ROOT, LIST) == VECTOR["signed"], "Ed25519 is deterministic (RFC 8032)"


def test_another_roots_list_is_not_read() -> None:
    with pytest.raises(KeyListBroken, match="not signed by this portal's root key"):
        read_key_list(PUBLIC, sign_key_list(Ed25519PrivateKey.generate(), LIST))


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(sign_key_list(ROOT, LIST)))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(KeyListBroken):
        read_key_list(PUBLIC, base64.b64encode(raw).decode())


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"kms-keys/2", *[bytes(8)] * 3],
        [b"kms-keys/1", *[bytes(8)] * 2],
        [b"kms-keys/1", *[bytes(8)] * 3, b"web", bytes(8), bytes(32), b"signing"],  # another key's id
        [b"kms-keys/1", *[bytes(8)] * 3, b"web"],
        [*parts_of(LIST.encode())[:-1], b"asleep"],
        [*parts_of(LIST.encode()), *parts_of(LIST.encode())[4:8]],  # a key twice
    ],
)
def test_another_format_is_not_read_though_the_root_key_signed_it(parts: list[bytes]) -> None:
    with pytest.raises(KeyListBroken, match="not a key list of the portal"):
        read_key_list(PUBLIC, signed(sequence(parts)))


@pytest.mark.parametrize("text", ["", "é", "====", "AAAA", base64.b64encode(b"\xff" * 40).decode()])
def test_junk_is_not_read(text: str) -> None:
    with pytest.raises(KeyListBroken):
        read_key_list(PUBLIC, text)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_a_sequence_gives_its_parts_again(parts: list[bytes]) -> None:
    assert parts_of(sequence(parts)) == parts


@given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.binary(max_size=20), max_size=4))
def test_no_two_sequences_share_their_bytes(one: list[bytes], other: list[bytes]) -> None:
    assert (sequence(one) == sequence(other)) == (one == other)


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\x02a", b"\0\0\0\x01ab", b"\xff\xff\xff\xffa"])
def test_a_sequence_that_breaks_off_is_none(data: bytes) -> None:
    with pytest.raises(SequenceBroken):
        parts_of(data)
