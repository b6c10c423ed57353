"""A request and a confirmation say one thing, in bytes that never change."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmscore.sealed.request import AGE_SECONDS, Confirmation, HandoverSubject, Kind, Request
from kmscore.sealed.sequence import SequenceBroken, parts_of, sequence
from tests.kmscore.sealed.places import PLACE

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "request.json").read_text())
REQUEST = Request("renewal", PLACE, UUID(int=9), b"\x07" * 1216, 1_790_000_000)
CONFIRMATION = Confirmation(PLACE, {"environments": "accessor-e", "atoms": "accessor-a"})
IDS, NUMBERS = st.uuids(), st.integers(0, 2**64 - 1)
PLACES = st.builds(HandoverSubject, IDS, IDS, IDS, IDS, NUMBERS, NUMBERS)
REQUESTS = st.builds(
    Request, st.sampled_from(get_args(Kind)), PLACES, st.none() | IDS, st.binary(max_size=1_300), NUMBERS
)


def test_the_bytes_of_a_request_are_those_of_the_vector() -> None:
    assert REQUEST.encode().hex() == VECTOR["request"]
    assert CONFIRMATION.encode().hex() == VECTOR["confirmation"]


@given(REQUESTS)
def test_a_request_is_read_as_it_was_made(made: Request) -> None:
    assert Request.decode(made.encode()) == made


@given(PLACES, st.dictionaries(st.text(max_size=20), st.text(max_size=40), min_size=1, max_size=4))
def test_a_confirmation_is_read_as_it_was_made(place: HandoverSubject, accessors: dict[str, str]) -> None:
    made = Confirmation(place, accessors)
    assert Confirmation.decode(made.encode()) == made


def test_a_request_counts_for_a_quarter_of_an_hour_by_the_vaults_clock() -> None:
    for now, of_age in ((0, True), (AGE_SECONDS, True), (-AGE_SECONDS, True), (AGE_SECONDS + 1, False)):
        assert REQUEST.is_of_age(REQUEST.time + now) is of_age
    assert not REQUEST.is_of_age(REQUEST.time - AGE_SECONDS - 1), "nor one from the future"


REQUEST_PARTS, CONFIRMATION_PARTS = parts_of(REQUEST.encode()), parts_of(CONFIRMATION.encode())


@pytest.mark.parametrize(
    "parts",
    [
        CONFIRMATION_PARTS,
        REQUEST_PARTS[:-1],
        [*REQUEST_PARTS, b""],
        [REQUEST_PARTS[0], b"withdrawal", *REQUEST_PARTS[2:]],
        [*REQUEST_PARTS[:-1], b"1790000000"],
    ],
)
def test_another_form_is_no_request(parts: list[bytes]) -> None:
    with pytest.raises(SequenceBroken):
        Request.decode(sequence(parts))


@pytest.mark.parametrize(
    "parts",
    [
        REQUEST_PARTS,
        CONFIRMATION_PARTS[:7],
        CONFIRMATION_PARTS[:-1],
        [*CONFIRMATION_PARTS, *CONFIRMATION_PARTS[-2:]],
        [*CONFIRMATION_PARTS, *(b"mount-%d" % n for n in range(6))],
    ],
)
def test_another_form_is_no_confirmation(parts: list[bytes]) -> None:
    """A mount twice, too: two accessors for one would let either be taken for the other."""
    with pytest.raises(SequenceBroken):
        Confirmation.decode(sequence(parts))


def test_a_request_is_not_a_confirmation_of_the_same_place() -> None:
    assert REQUEST.encode() != replace(REQUEST, kind="lost").encode()
    with pytest.raises(SequenceBroken):
        Confirmation.decode(REQUEST.encode())
