"""The operator's commands: what they make, and one clear line when they cannot."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts import audit
from accounts.access import genuine_roles, is_administrator
from accounts.models import Account, Membership, User
from accounts.privileges import ADMINISTRATOR
from tests.conftest import Cast
from vaults.models import KmsAccount

pytestmark = pytest.mark.django_db(transaction=True)
GOOD = "a long enough passphrase\n"


def run(monkeypatch: pytest.MonkeyPatch, *words: str, password: str = GOOD, **options: Any) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(password))
    out = io.StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()


def test_an_account_comes_with_its_administrator_and_kms(built_in_roles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(monkeypatch, "create_account", "Acme Corp", "--admin", "Boss@Example.com")
    account = Account.objects.get()
    assert account.code in said
    assert account.code.startswith("acmecorp-")
    assert KmsAccount.is_active(account)
    assert Membership.objects.get().roles == [str(ADMINISTRATOR)]
    assert User.objects.get(email="boss@example.com").check_password(GOOD.strip())
    assert audit.first_broken(account) is None


def test_an_account_without_kms_has_none_until_it_is_activated(
    built_in_roles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, "create_account", "Acme", "--admin", "a@example.com", "--without-kms")
    account = Account.objects.get()
    assert not KmsAccount.is_active(account)
    for _ in range(2):
        run(monkeypatch, "activate_kms", account.code)
    assert KmsAccount.is_active(Account.objects.get())


@pytest.mark.parametrize(
    ("words", "password", "why"),
    [
        (("Acme", "--admin", "nobody"), GOOD, "valid email"),
        (("Acme", "--admin", "a@example.com"), "short\n", "too short"),
        (("Acme", "--admin", "a@example.com", "--code", "Bad Code"), GOOD, "looks like acme-X1Y2Z3"),
    ],
)
def test_a_bad_account_is_refused_whole(
    built_in_roles: None, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], password: str, why: str
) -> None:
    with pytest.raises(CommandError, match=why):
        run(monkeypatch, "create_account", *words, password=password)
    assert not Account.objects.exists()
    assert not User.objects.exists()


def test_a_member_gets_exactly_the_roles_named(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "add_member", cast.account.code, "new@example.com", "--role", "Support", "--role", "Standard User")
    run(monkeypatch, "add_member", cast.account.code, "new@example.com", "--role", "Readers")
    membership = Membership.objects.get(user__email="new@example.com")
    assert [role.name for role in genuine_roles(membership)] == ["Readers"]


def test_an_unknown_role_names_the_known_ones(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="Administrator, Production Support, Readers, Standard User, Support"):
        run(monkeypatch, "add_member", cast.account.code, "new@example.com", "--role", "King")


def test_a_role_of_another_account_is_unknown(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="no role Readers"):
        run(monkeypatch, "add_member", cast.other.code, "bob@example.com", "--role", "Readers")


def test_an_account_keeps_an_administrator(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    code, own = cast.account.code, "alice@example.com"
    with pytest.raises(CommandError, match="the only Administrator of .*make another one first"):
        run(monkeypatch, "add_member", code, own, "--role", "Support")
    run(monkeypatch, "add_member", code, own, "--role", "Support", "--role", "Administrator")
    run(monkeypatch, "add_member", code, "bob@example.com", "--role", "Administrator")
    run(monkeypatch, "add_member", code, own, "--role", "Support")
    assert not is_administrator(Membership.objects.get(account=cast.account, user=cast.alice))


def test_an_administrator_who_may_not_sign_in_is_none_to_be_left_with(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, "add_member", cast.account.code, "bob@example.com", "--role", "Administrator")
    bob = User.objects.get(email="bob@example.com")
    bob.is_active = False
    bob.save(update_fields=["is_active"])
    with pytest.raises(CommandError, match="the only Administrator"):
        run(monkeypatch, "add_member", cast.account.code, "alice@example.com", "--role", "Support")
