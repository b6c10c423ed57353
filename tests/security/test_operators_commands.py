"""An attacker who writes rows for the moment in which an operator does an ordinary act, and then writes them back.

On commit cbfcbee each won: `add_member` gave a person another role than the operator named, or a place in another account;
`reset_credentials` gave the Administrator's row the attacker's address and a password that the attacker got.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import models

from accounts.models import Account, Membership, Role, User
from accounts.privileges import ADMINISTRATOR, BUILT_IN_ROLES
from tests.conftest import Cast, client_of
from vaults.models import KmsAccount

pytestmark = pytest.mark.django_db(transaction=True)
SUPPORT = next(pk for pk, (name, _) in BUILT_IN_ROLES.items() if name == "Support")


@contextmanager
def swapped(one: models.Model, other: models.Model, column: str) -> Iterator[None]:
    def swap() -> None:
        rows = type(one)._base_manager
        here, there = (rows.filter(pk=row.pk).values_list(column, flat=True).get() for row in (one, other))
        for row, value in ((one, "~"), (other, here), (one, there)):
            rows.filter(pk=row.pk).update(**{column: value})

    swap()
    yield
    swap()


def said(*words: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()


def test_a_role_is_the_one_that_the_operator_named(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the password of a temp\n"))
    with swapped(Role.objects.get(pk=ADMINISTRATOR), Role.objects.get(pk=SUPPORT), "name"):
        said("add_member", cast.account.code, "temp@example.com", "--role", "Support")
    assert Membership.objects.get(user__email="temp@example.com").roles == [str(SUPPORT)]


def test_an_account_is_the_one_that_the_operator_named(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the password of a crony\n"))
    with (
        swapped(cast.account, cast.other, "code"),
        pytest.raises(CommandError, match="changed past the portal; nothing was done"),
    ):
        said("add_member", cast.other.code, "crony@example.com", "--role", "Administrator")
    with swapped(cast.account, cast.other, "code"), pytest.raises(CommandError, match="nothing was done"):
        said("activate_kms", cast.other.code)
    assert not User.objects.filter(email="crony@example.com").exists()
    assert not KmsAccount.objects.exists()


def test_a_password_is_for_the_person_that_the_operator_named(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a password for the attacker\n"))
    with (
        swapped(cast.alice, cast.charlie, "email"),
        pytest.raises(
            CommandError, match=rf"another person's: {cast.account.name} \(Administrator\).*--id {cast.alice.pk}"
        ),
    ):
        said("reset_credentials", cast.charlie.email)
    assert client_of(cast.alice)


def test_what_an_account_is_called_is_told_as_it_was_signed(cast: Cast) -> None:
    """Of a forged account nobody is told that anything was done to it."""
    Account.objects.filter(pk=cast.account.pk).update(name="Somebody else")
    with pytest.raises(CommandError):
        said("add_member", cast.account.code, cast.bob.email, "--role", "Support")
