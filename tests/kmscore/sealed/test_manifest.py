"""The manifest's bytes are frozen, and only a manifest is read as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmscore.sealed.manifest import Entry, Manifest, ManifestBroken, decode, digest, manifest_place, value_place

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "manifest.json").read_text())
entries = st.builds(
    Entry,
    form=st.sampled_from(("sealed", "plain", "component", "missing", "lost")),
    path=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    name=st.text(max_size=8),
    revision=st.integers(0, 2**53),
    digest=st.text(max_size=8),
)


@given(st.text(max_size=8), st.integers(0, 2**53), st.lists(entries, max_size=5).map(tuple))
def test_what_is_encoded_is_decoded(environment: str, revision: int, listed: tuple[Entry, ...]) -> None:
    manifest = Manifest(environment, revision, listed)
    assert decode(manifest.encode()) == manifest


def test_the_format_is_frozen() -> None:
    manifest = decode(VECTOR["encoded"].encode())
    assert manifest.encode().decode() == VECTOR["encoded"]
    assert [(entry.form, entry.path[0], entry.name, entry.revision) for entry in manifest.entries] == [
        ("sealed", "connection", "Orders", 7),
        ("plain", "property", "region", 3),
        ("component", "connection", "Orders", 1),
    ]
    assert [entry.digest for entry in manifest.entries] == ["5c0e7d42-9a1b-4f3c-8d2e-7b6a5c4d3e2f", digest("eu"), ""]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"format": 2, "environment": "e", "revision": 1, "entries": []}',
        b'{"format": 1, "environment": "e", "revision": 1}',
        b'{"format": 1, "environment": "e", "revision": 1, "entries": [["sealed"]]}',
        b'{"format": 1, "environment": "e", "revision": 1, "entries": 7}',
    ],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(ManifestBroken):
        decode(text)


def test_a_value_and_a_manifest_never_share_a_place() -> None:
    value = value_place("account", "environment", (), 3, "key")
    assert value.associated_data() != manifest_place("account", "environment", 3, "key").associated_data()
