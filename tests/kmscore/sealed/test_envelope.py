"""Sealing: what is sealed for a place opens there and nowhere else, and the bytes of the format never change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmscore.sealed.envelope import KINDS, Bound, Place, SealBroken, open_sealed, seal

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "envelope.json").read_text())
KEY = bytes(range(32))
words = st.text(max_size=12)
places = st.builds(
    Place,
    account=words,
    recipient=words,
    kind=st.sampled_from(KINDS),
    path=st.lists(words, max_size=4).map(tuple),
    revision=st.integers(0, 2**63 - 1),
    data_key_id=words,
)


@given(places, st.binary(max_size=300), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens_again(place: Place, plaintext: bytes, key: bytes) -> None:
    sealed = seal(key, plaintext, place)
    assert len(sealed) == len(plaintext) + 29
    assert open_sealed(key, sealed, place) == plaintext


@given(places, places)
def test_no_two_places_share_their_associated_data(one: Place, other: Place) -> None:
    assert (one == other) == (one.associated_data() == other.associated_data())


@given(places, st.binary(max_size=40), st.data())
def test_any_changed_bit_is_noticed(place: Place, plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, plaintext, place))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBroken):
        open_sealed(KEY, bytes(sealed), place)


@pytest.mark.parametrize("length", [254, 255, 256, 257, 70_000])
def test_a_long_name_is_no_special_case(length: int) -> None:
    place = Place("account", "recipient", "stored", ("é" * (length // 2) + "x" * (length % 2),), 1, "key")
    sealed = Bound("account", "recipient", "stored").seal_many(KEY, "key", [(place.path, 1, b"value")])[0]
    assert open_sealed(KEY, sealed, place) == b"value"


@given(
    st.lists(
        st.tuples(st.lists(words, min_size=1, max_size=4).map(tuple), st.integers(0, 2**40), st.binary(max_size=50))
    )
)
def test_many_at_once_is_the_same_as_one_by_one(values: list[tuple[tuple[str, ...], int, bytes]]) -> None:
    bound = Bound("account", "recipient", "stored")
    sealed = bound.seal_many(KEY, "key", values)
    for (path, revision, plaintext), one in zip(values, sealed, strict=True):
        place = Place("account", "recipient", "stored", path, revision, "key")
        assert open_sealed(KEY, one, place) == plaintext
    rows = [(path, revision, one) for (path, revision, _), one in zip(values, sealed, strict=True)]
    assert bound.open_many(KEY, "key", rows) == [plaintext for _, _, plaintext in values]


PLACE = Place("account", "environment", "extension", ("connection", "orders", "password"), 3, "key")


@pytest.mark.parametrize(
    "change",
    [
        {"account": "other"},
        {"recipient": "other"},
        {"kind": "kms-file"},
        {"path": ("connection", "orders", "user")},
        {"path": ("connection", "orderspassword")},
        {"path": ("connection", "orders", "password", "")},
        {"revision": 2},
        {"data_key_id": "other"},
    ],
)
def test_a_moved_value_does_not_open(change: dict[str, object]) -> None:
    sealed = seal(KEY, b"value", PLACE)
    with pytest.raises(SealBroken):
        open_sealed(KEY, sealed, replace(PLACE, **change))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" * 28, b"\x02" + b"\0" * 40])
def test_what_is_no_sealed_value_is_refused(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        open_sealed(KEY, sealed, PLACE)
    with pytest.raises(SealBroken):
        Bound("account", "environment", "extension").open_many(KEY, "key", [(PLACE.path, 3, sealed)])


def test_a_short_key_is_refused() -> None:
    with pytest.raises(SealBroken):
        open_sealed(KEY[:16], seal(KEY, b"value", PLACE), PLACE)
    with pytest.raises(SealBroken):
        Bound("a", "b", "stored").open_many(KEY[:16], "key", [])


def test_an_unknown_kind_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="kind"):
        replace(PLACE, kind="other").associated_data()
    with pytest.raises(ValueError, match="kind"):
        Bound("a", "b", "other")


def test_the_error_tells_nothing() -> None:
    sealed = seal(KEY, b"canary-value", PLACE)
    with pytest.raises(SealBroken) as caught:
        open_sealed(KEY, sealed, replace(PLACE, revision=9))
    assert caught.value.__context__ is None
    assert "canary" not in repr(caught.value)


FITTING = [vector for vector in VECTORS if vector["place"]["path"]]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_format_is_frozen(vector: dict[str, object]) -> None:
    fields = dict(vector["place"])  # type: ignore[call-overload]
    place = Place(**(fields | {"path": tuple(fields["path"])}))
    assert place.associated_data().hex() == vector["associated_data"]
    opened = open_sealed(bytes.fromhex(str(vector["key"])), bytes.fromhex(str(vector["sealed"])), place)
    assert opened.hex() == vector["plaintext"]


@pytest.mark.parametrize("vector", FITTING, ids=lambda vector: vector["name"])
def test_the_format_is_frozen_for_many_too(vector: dict[str, object]) -> None:
    place = dict(vector["place"])  # type: ignore[call-overload]
    bound = Bound(place["account"], place["recipient"], place["kind"])
    rows = [(tuple(place["path"]), place["revision"], bytes.fromhex(str(vector["sealed"])))]
    opened = bound.open_many(bytes.fromhex(str(vector["key"])), place["data_key_id"], rows)
    assert opened[0].hex() == vector["plaintext"]
