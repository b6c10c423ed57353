"""I8: whatever was moved, swapped, dropped, renamed or rolled back on the way is refused. No server needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmscore.sealed.manifest import Entry, Form, Manifest, digest
from kmsruntime.delivery import verify
from kmsruntime.delivery.read import Delivery, Sealed, read_delivery
from kmsruntime.errors import DeliveryRefused, RevisionLower
from tests.kmsruntime.pieces import ACCOUNT, ATOM, ENVIRONMENT, ORDERS

PASSWORD, API_KEY, USER = (("connection", ORDERS, field) for field in ("password", "apiKey", "user"))
REGION, OLD = ("property", "region"), ("property", "old")
MANIFEST = Manifest(
    ENVIRONMENT,
    5,
    (
        Entry("sealed", PASSWORD, "Orders", 5, "key"),
        Entry("sealed", API_KEY, "Orders", 4, "older key"),
        Entry("plain", USER, "Orders", 5, digest("orders")),
        Entry("plain", REGION, "region", 2, digest("eu")),
        Entry("component", ("connection", ORDERS, "token"), "Orders", 1),
    ),
)
DELIVERY = Delivery(
    account=ACCOUNT,
    atom=ATOM,
    attachment_revision=1,
    settings_revision=1,
    rekey_revision=0,
    environment=ENVIRONMENT,
    environment_name="Production",
    revision=5,
    manifest=Sealed(5, "key", 0, b""),
    values={PASSWORD: Sealed(5, "key", 0, b"")},
    plain={USER: (5, "orders")},
)
OPENED = {PASSWORD: b"new"}
HELD: dict[tuple[str, ...], tuple[str, int, str, Any]] = {
    PASSWORD: ("sealed", 3, "oldest key", b"old"),
    API_KEY: ("sealed", 4, "older key", b"api"),
    REGION: ("plain", 2, digest("eu"), "eu"),
    OLD: ("plain", 1, digest("leaves"), "leaves"),
}


def check(manifest: Manifest, delivery: Delivery, held: Any) -> list[tuple[Entry, Any]]:
    verify.check_revision(delivery, 4)
    verify.check_empty(delivery)
    verify.check_manifest(manifest, delivery)
    verify.check_delivered(manifest, delivery)
    verify.check_sealed(manifest, held)
    opened = OPENED | dict.fromkeys(set(delivery.values) - set(OPENED), b"other")
    return verify.assemble(manifest, delivery, {path: opened[path] for path in delivery.values}, held)


def test_what_fits_is_taken_and_what_left_the_manifest_is_dropped() -> None:
    assert [value for _, value in check(MANIFEST, DELIVERY, HELD)] == [b"new", b"api", "orders", "eu", None]


@pytest.mark.parametrize("form", ["missing", "component"])
def test_an_encrypted_field_without_a_value_is_missing_whatever_the_list_calls_it(form: Form) -> None:
    entries = check(listed(4, form=form), DELIVERY, HELD)
    assert [(entry.form, value) for entry, value in entries if entry.path[-1] == "token"] == [("missing", None)]


def listed(position: int, **changes: Any) -> Manifest:
    """The manifest with one entry changed."""
    rows = list(MANIFEST.entries)
    rows[position] = rows[position]._replace(**changes)
    return replace(MANIFEST, entries=tuple(rows))


def deliver(**changes: Any) -> Delivery:
    return replace(DELIVERY, **changes)


def hold(path: tuple[str, ...], what: Any) -> dict[tuple[str, ...], Any]:
    return {**HELD, path: what} if what else {key: value for key, value in HELD.items() if key != path}


TAMPERED = {
    "another environment's manifest": (replace(MANIFEST, environment=ATOM), DELIVERY, HELD),
    "an older manifest": (replace(MANIFEST, revision=4), DELIVERY, HELD),
    "a manifest from the future": (replace(MANIFEST, revision=6), DELIVERY, HELD),
    "the same thing listed twice": (replace(MANIFEST, entries=MANIFEST.entries[:1] * 2), DELIVERY, HELD),
    "a path of another kind": (listed(0, path=("other", ORDERS, "password")), DELIVERY, HELD),
    "an empty path": (listed(0, path=()), DELIVERY, HELD),
    "a value newer than its manifest": (
        listed(0, revision=6),
        deliver(values={PASSWORD: Sealed(6, "key", 0, b"")}),
        HELD,
    ),
    "a value without a revision": (listed(0, revision=0), DELIVERY, HELD),
    "an unknown form": (listed(0, form="other"), DELIVERY, HELD),
    "a value moved to another field": (MANIFEST, deliver(values={API_KEY: Sealed(5, "key", 0, b"")}), HELD),
    "a value that is not listed": (
        MANIFEST,
        deliver(values={("connection", ORDERS, "x"): Sealed(5, "k", 0, b"")}),
        HELD,
    ),
    "a value of another timeline": (MANIFEST, deliver(values={PASSWORD: Sealed(5, "other", 0, b"")}), HELD),
    "a value rolled back": (MANIFEST, deliver(values={PASSWORD: Sealed(3, "key", 0, b"")}), HELD),
    "a value dropped": (MANIFEST, deliver(values={}), HELD),
    "a value dropped and never held": (MANIFEST, deliver(values={}), hold(PASSWORD, None)),
    "a held value of another revision": (MANIFEST, DELIVERY, hold(API_KEY, ("sealed", 3, "older key", b"api"))),
    "a held value of another timeline": (MANIFEST, DELIVERY, hold(API_KEY, ("sealed", 4, "other", b"api"))),
    "a held value of another form": (MANIFEST, DELIVERY, hold(API_KEY, ("plain", 4, "older key", "api"))),
    "a sealed value where a plain one is listed": (MANIFEST, deliver(values={USER: Sealed(5, "k", 0, b"")}), HELD),
    "a plain value where a sealed one is listed": (MANIFEST, deliver(plain={PASSWORD: (5, "p")}), HELD),
    "a value for a field that is listed as missing": (
        MANIFEST,
        deliver(values={**DELIVERY.values, ("connection", ORDERS, "token"): Sealed(1, "k", 0, b"")}),
        HELD,
    ),
    "a plain value changed": (MANIFEST, deliver(plain={USER: (5, "root")}), HELD),
    "a plain value rolled back": (MANIFEST, deliver(plain={USER: (4, "orders")}), HELD),
    "a plain value moved": (MANIFEST, deliver(plain={REGION: (5, "orders")}), HELD),
    "a plain value added": (MANIFEST, deliver(plain={**DELIVERY.plain, ("property", "x"): (5, "y")}), HELD),
    "a plain value dropped": (MANIFEST, deliver(plain={}), HELD),
    "a held plain value changed": (MANIFEST, DELIVERY, hold(REGION, ("plain", 2, digest("eu"), "us"))),
    "a held plain value of another timeline": (MANIFEST, DELIVERY, hold(REGION, ("plain", 2, digest("us"), "us"))),
    "values without a manifest": (MANIFEST, deliver(manifest=None, revision=0), HELD),
    "a revision without a manifest": (MANIFEST, deliver(manifest=None), HELD),
    "a manifest without a revision": (MANIFEST, deliver(revision=0), HELD),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_refused_as_a_whole(name: str) -> None:
    with pytest.raises((DeliveryRefused, RevisionLower)):
        check(*TAMPERED[name])


def test_a_lower_revision_is_refused_with_the_way_out() -> None:
    with pytest.raises(RevisionLower, match="--accept-restore"):
        verify.check_revision(DELIVERY, 6)
    verify.check_revision(DELIVERY, 5)


ANSWER: dict[str, Any] = {
    "format": 1,
    "account": ACCOUNT,
    "atom": {"id": ATOM, "name": "A", "type": "ATOM"},
    "attachment_revision": 1,
    "settings_revision": 1,
    "environment": {"id": ENVIRONMENT, "name": "Production"},
    "revision": 5,
    "manifest": {"data_key": "k", "document": 0, "sealed": "AAAA"},
    "values": [[list(PASSWORD), 5, "k", 0, "AAAA"]],
    "plain": [[list(REGION), 2, "eu"]],
}


def test_an_answer_is_read() -> None:
    delivery = read_delivery(ANSWER)
    assert delivery.values == {PASSWORD: Sealed(5, "k", 0, b"\0\0\0")}
    assert delivery.plain == {REGION: (2, "eu")}
    assert read_delivery({**ANSWER, "environment": None}).environment == ""


MALFORMED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda answer: answer.update(format=2),
    "no account": lambda answer: answer.pop("account"),
    "an id that is a path": lambda answer: answer.update(account="../" + ACCOUNT),
    "an id in capitals": lambda answer: answer.update(account=ACCOUNT.upper()),
    "an environment id that is a path": lambda answer: answer.update(environment={"id": "x/../y", "name": ""}),
    "a revision in words": lambda answer: answer.update(revision="5"),
    "a negative revision": lambda answer: answer.update(revision=-1),
    "a revision that is true": lambda answer: answer.update(revision=True),
    "a document that is a path": lambda answer: answer.update(values=[[list(PASSWORD), 5, "k", "0/../1", "AAAA"]]),
    "no base64": lambda answer: answer.update(values=[[list(PASSWORD), 5, "k", 0, "A*"]]),
    "a short row": lambda answer: answer.update(values=[[list(PASSWORD), 5, "k", 0]]),
    "a value twice": lambda answer: answer.update(values=answer["values"] * 2),
    "a plain value twice": lambda answer: answer.update(plain=answer["plain"] * 2),
    "a plain value that is a number": lambda answer: answer.update(plain=[[list(REGION), 2, 7]]),
    "a path that is a number": lambda answer: answer.update(plain=[[7, 2, "eu"]]),
    "a path of lists": lambda answer: answer.update(plain=[[[["x"]], 2, "eu"]]),
    "an environment that is false": lambda answer: answer.update(environment=False),
    "an environment of nothing": lambda answer: answer.update(environment={}),
    "an environment whose id is a number": lambda answer: answer.update(environment={"id": 0, "name": ""}),
    "an environment without an id": lambda answer: answer.update(environment={"id": "", "name": ""}),
    "a manifest that is a number": lambda answer: answer.update(manifest=0),
    "a manifest of lists": lambda answer: answer.update(manifest=[1, 2]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_answer_is_refused(name: str) -> None:
    answer = {**ANSWER, "values": list(ANSWER["values"]), "plain": list(ANSWER["plain"])}
    MALFORMED[name](answer)
    with pytest.raises(DeliveryRefused):
        read_delivery(answer)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(ANSWER)), json_values)
def test_no_answer_makes_it_fail_in_another_way(name: str, value: Any) -> None:
    """Read or refused; never another exception."""
    try:
        read_delivery({**ANSWER, name: value})
    except DeliveryRefused:
        return


def test_a_lost_value_is_kept_only_when_it_is_that_very_one() -> None:
    lost = Entry("lost", PASSWORD, "Orders", 3, "oldest key")
    manifest = Manifest(ENVIRONMENT, 5, (lost,))
    delivery = replace(DELIVERY, values={}, plain={})
    kept = verify.assemble(manifest, delivery, {}, HELD)
    assert kept == [(lost._replace(form="sealed"), b"old")]
    for other in (lost._replace(revision=2), lost._replace(digest="another key")):
        assert verify.assemble(Manifest(ENVIRONMENT, 5, (other,)), delivery, {}, HELD) == [(other, None)]


@pytest.mark.parametrize("known_by", ["the manifest", "what is held"])
def test_what_was_encrypted_once_is_not_taken_in_the_clear(known_by: str) -> None:
    entries = tuple(
        Entry("plain", PASSWORD, "Orders", 5, digest("in the clear")) if entry.path == PASSWORD else entry
        for entry in MANIFEST.entries
    )
    plain = replace(DELIVERY, values={}, plain=DELIVERY.plain | {PASSWORD: (5, "in the clear")})
    held = HELD if known_by == "what is held" else {path: one for path, one in HELD.items() if path != PASSWORD}
    sealed = frozenset({PASSWORD}) if known_by == "the manifest" else frozenset()
    with pytest.raises(DeliveryRefused, match=r"encrypted once came in the clear \(Orders/password\)"):
        check(replace(MANIFEST, entries=entries, sealed=sealed), plain, held)


def test_what_was_plain_may_become_encrypted() -> None:
    held = HELD | {PASSWORD: ("plain", 3, digest("old"), "old")}
    assert dict((entry.path, value) for entry, value in check(MANIFEST, DELIVERY, held))[PASSWORD] == b"new"
