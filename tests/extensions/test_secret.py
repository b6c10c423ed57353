"""A secret is not shown by accident, whatever is done with it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest

from extensions.secret import Secret

SECRET = Secret("canary-5ecret")


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>30}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 the old way, too
        lambda secret: "{0!s} {1}".format(secret, [secret]),  # noqa: UP030, UP032
        lambda secret: repr({"password": secret}),
        lambda secret: logging.makeLogRecord({"msg": "%s", "args": (secret,)}).getMessage(),
        lambda secret: json.dumps({"password": secret}, default=str),
    ],
)
def test_formatting_shows_nothing(show: Callable[[Secret], str]) -> None:
    assert "canary" not in show(SECRET)


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars, dict, list])
def test_it_cannot_be_taken_apart(take: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as caught:
        take(SECRET)
    assert "canary" not in str(caught.value)


def test_a_traceback_with_local_variables_shows_nothing() -> None:
    def fails(password: Secret) -> None:
        raise ValueError(password)

    with pytest.raises(ValueError, match="<secret>") as caught:
        fails(SECRET)
    lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    # the text of this very file names the canary; the value itself must not be there
    assert "canary-5ecret" not in "".join(line for line in lines if "SECRET = Secret(" not in line)


def test_reveal_is_the_way() -> None:
    assert SECRET.reveal() == "canary-5ecret"
    assert Secret("ü").size() == 2
    assert Secret("x")
    assert not Secret("")
    assert Secret("a") != Secret("a")
