"""An entry of the ledger is believed when its node and web have signed it, and its bytes never change."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmscore.sealed.node import MOST_CHARACTERS, Endorsement, LedgerEntry, NodeStatement, NotGenuine
from kmscore.sealed.sequence import SequenceBroken, parts_of, sequence
from tests.kmscore.sealed.places import LIST, NODE_KEY, PLACE, WEB_KEY, WORKER_KEY, portal_signature

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "node.json").read_text())
NODE = NodeStatement(
    PLACE.account, PLACE.atom, PLACE.node, NODE_KEY.public_key().public_bytes_raw(), "https://portal.example:8443"
)
WORD = Endorsement(hashlib.sha256(NODE.encode()).digest(), UUID(int=7), UUID(int=8), 1_790_000_900)
ENTRY = LedgerEntry(
    NODE.encode(), NODE_KEY.sign(NODE.encode()), WORD.encode(), portal_signature(WEB_KEY, WORD.encode())
)


def test_what_node_and_web_signed_is_read_again() -> None:
    assert LedgerEntry.decode(ENTRY.encode()).judged(LIST) == (NODE, WORD)


def test_the_bytes_are_those_of_the_vector() -> None:
    assert (NODE.encode().hex(), WORD.encode().hex()) == (VECTOR["node"], VECTOR["endorsement"])
    assert ENTRY.encode() == VECTOR["entry"], "Ed25519 is deterministic (RFC 8032)"


def test_fifteen_hundred_entries_fit_into_a_document() -> None:
    document = json.dumps({"nodes": {str(UUID(int=n)): "e" * MOST_CHARACTERS for n in range(1_500)}})
    assert len(ENTRY.encode()) < 560
    assert len(document) < 1024 * 1024


def test_an_entry_that_its_node_did_not_sign_is_not_believed() -> None:
    other = WORKER_KEY
    for forged in (
        replace(ENTRY, node_signature=other.sign(ENTRY.node)),
        replace(ENTRY, node=replace(NODE, atom=UUID(int=99)).encode()),
        replace(ENTRY, node=replace(NODE, key=other.public_key().public_bytes_raw()).encode()),
    ):
        with pytest.raises(NotGenuine, match="did not sign"):
            forged.judged(LIST)


def test_an_endorsement_is_of_one_node() -> None:
    moved = replace(NODE, atom=UUID(int=99)).encode()
    with pytest.raises(NotGenuine, match="another node"):
        replace(ENTRY, node=moved, node_signature=NODE_KEY.sign(moved)).judged(LIST)


def test_only_web_endorses() -> None:
    dead = replace(LIST, keys=tuple(replace(key, state="dead") for key in LIST.keys))
    by_worker = replace(ENTRY, web_signature=portal_signature(WORKER_KEY, ENTRY.endorsement))
    under_webs_name = replace(ENTRY, web_signature=ENTRY.web_signature[:8] + WORKER_KEY.sign(ENTRY.endorsement))
    for forged, listed in ((by_worker, LIST), (under_webs_name, LIST), (ENTRY, dead)):
        with pytest.raises(NotGenuine, match="did not endorse"):
            forged.judged(listed)


@given(st.data())
def test_a_changed_byte_of_an_entry_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(ENTRY.encode()))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(NotGenuine):
        LedgerEntry.decode(base64.b64encode(raw).decode()).judged(LIST)


@given(st.text(max_size=200) | st.binary(max_size=300).map(lambda raw: base64.b64encode(raw).decode()))
def test_whatever_stands_there_is_judged_by_name(text: str) -> None:
    with pytest.raises(NotGenuine):
        LedgerEntry.decode(text).judged(LIST)


@pytest.mark.parametrize(
    "parts",
    [
        [b"kms-node/2", *parts_of(NODE.encode())[1:]],
        parts_of(NODE.encode())[:-1],
        [*parts_of(NODE.encode()), b""],
        [b"kms-node/1", b"short", *parts_of(NODE.encode())[2:]],
        [*parts_of(NODE.encode())[:4], bytes(31), b"https://portal.example"],
        [*parts_of(NODE.encode())[:5], b"\xff"],
    ],
)
def test_another_form_is_no_node(parts: list[bytes]) -> None:
    with pytest.raises(SequenceBroken):
        NodeStatement.decode(sequence(parts))


def test_a_fingerprint_is_the_keys() -> None:
    assert NODE.fingerprint == hashlib.sha256(NODE.key).hexdigest()
