"""What the portal hands over is read strictly: nothing of another type becomes a credential, or the time that one lives."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kmsruntime.enrolment.handover import MOST_SECONDS, ROLE_ID_SECONDS, _delivered
from kmsruntime.errors import PortalMisconfigured
from tests.kmsruntime.pieces import ACCOUNT, ATOM, ENVIRONMENT, ORDERS

NOW = 1_795_762_800
ANSWER: dict[str, Any] = {
    "node": ORDERS,
    "account": {"id": ACCOUNT, "code": "acme-X1Y2Z3"},
    "atom": {"id": ATOM, "name": "Orders Atom", "type": "ATOM"},
    "environment": {"id": ENVIRONMENT, "name": "Production"},
    "attachment_revision": 3,
    "grants": [
        {"mount": mount, "recipient": of, "role_id_token": "s.role", "secret_id_token": "s.secret", "seconds": 600}
        for mount, of in (("atoms", ATOM), ("environments", ENVIRONMENT))
    ],
}
NO_NUMBER = (None, "600", True, -1, 600.0, 2**63, 1e300)
NO_TEXT = (None, 7, True, ["x"], {})
NO_TOKEN = (*NO_TEXT, "", "schl\u00fcssel", "two\r\nlines", "s.\x1b")
NO_ID = (*NO_TEXT, "", "x", ATOM.upper(), "x" * 1_000_000)


def changed(place: tuple[Any, ...], value: object) -> dict[str, Any]:
    document = copy.deepcopy(ANSWER)
    holder: Any = document
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return document


def test_a_delivery_is_read() -> None:
    delivery, grants = _delivered(ANSWER, NOW)
    assert (delivery.environment, delivery.attachment_revision) == (ENVIRONMENT, 3)
    assert [grant.role_id.ends - NOW for grant in grants] == [ROLE_ID_SECONDS] * 2
    assert [grant.secret_id.ends - NOW for grant in grants] == [600] * 2
    _, grants = _delivered(changed(("grants", 0, "seconds"), 2**62), NOW)
    assert grants[0].secret_id.ends == NOW + MOST_SECONDS
    alone = changed(("environment",), None) | {"grants": ANSWER["grants"][:1]}
    assert _delivered(alone, NOW)[0].environment == ""


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (("attachment_revision",), (*NO_NUMBER, 2**31)),
        (("grants", 0, "seconds"), NO_NUMBER),
        (("grants", 0, "role_id_token"), NO_TOKEN),
        (("grants", 1, "secret_id_token"), NO_TOKEN),
        (("grants", 0, "mount"), NO_TEXT),
        (("grants",), (None, 7, {"a": 1}, [[]], ["x"])),
        (("node",), NO_ID),
        (("account",), (None, 7, "x", [])),
        (("account", "id"), NO_ID),
        (("account", "code"), (*NO_TEXT, "", "acme", "acme-X1Y2Z3\n", "../auth/token/revoke-self?x=", "a/b-X1Y2Z3")),
        (("atom", "id"), NO_ID),
        (("atom", "name"), NO_TEXT),
        (("atom", "type"), NO_TEXT),
        (("environment",), (False, 0, "", {}, [])),
        (("environment", "id"), NO_ID),
        (("environment", "name"), NO_TEXT),
    ],
)
def test_a_delivery_of_other_types_is_refused_by_name(place: tuple[Any, ...], values: tuple[object, ...]) -> None:
    """Nothing was the text "None", a life below no time hid a thief, and one without bounds could not be kept."""
    for value in values:
        with pytest.raises(PortalMisconfigured) as caught:
            _delivered(changed(place, value), NOW)
        assert caught.value.code == "answer_invalid", value
