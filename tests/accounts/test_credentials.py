"""A person's credentials count as they were signed: whoever writes to the database signs in as nobody, but by a former password.

On commit 4cd7d59 each of WRITES won: it signed in as Alice, had her reset link, or took away what she had to show.
"""

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.forms import ResetPasswordForm
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from allauth.mfa.utils import is_mfa_enabled
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import DataError, IntegrityError
from django.test import Client

from accounts import credentials, memory
from accounts.models import AuditEntry, Role, User
from accounts.privileges import ADMINISTRATOR
from accounts.rows import RowTampered
from tests.conftest import PASSWORD, Cast

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
OWN = "mallory's own password"  # noqa: S105


def rows(cast: Cast) -> Any:
    return User.objects.filter(pk=cast.alice.pk)


def others_factor(cast: Cast) -> Authenticator:
    """One of Charlie's, whose secret he knows."""
    found: Authenticator = TOTP.activate(cast.charlie, generate_totp_secret()).instance
    return found


WRITES: dict[str, Callable[[Cast], object]] = {
    "another password": lambda cast: rows(cast).update(password=make_password(OWN)),
    "somebody's own row": lambda cast: rows(cast).update(
        **User.objects.values("password", "signature").get(pk=cast.charlie.pk)
    ),
    "an active person again": lambda cast: rows(cast).update(is_active=True),
    "one of the staff": lambda cast: rows(cast).update(is_staff=True),
    "another address": lambda cast: rows(cast).update(email="mallory@evil.example"),
    "an address more": lambda cast: EmailAddress.objects.create(
        user=cast.alice, email="mallory@evil.example", verified=True, primary=True
    ),
    "no second factor": lambda cast: Authenticator.objects.filter(user=cast.alice)._raw_delete("default"),
    "another's second factor": lambda cast: Authenticator.objects.filter(pk=others_factor(cast).pk).update(
        user=cast.alice
    ),
    "other recovery codes": lambda cast: Authenticator.objects.filter(user=cast.alice).update(data={"seed": "known"}),
    "the digest with it": lambda cast: rows(cast).update(factors={}),
}


@pytest.fixture
def alice(cast: Cast) -> User:
    """With recovery codes; inactive, where that is what is written over."""
    RecoveryCodes.activate(cast.alice)
    cast.alice.refresh_from_db()
    return cast.alice


def signs_in(email: str, password: str) -> bool:
    browser = Client()
    answer = browser.post("/auth/login/", {"login": email, "password": password})
    return answer.status_code == 302


def test_what_was_signed_signs_in(alice: User) -> None:
    assert credentials.is_genuine(alice)
    assert signs_in(alice.email, PASSWORD)
    assert (alice.generation, set(alice.factors)) == (2, {"recovery_codes"})


@pytest.mark.parametrize("name", WRITES)
def test_what_was_written_signs_nobody_in_and_has_no_link_sent(name: str, cast: Cast, alice: User) -> None:
    if name == "an active person again":
        alice.is_active = False
        alice.save()
    WRITES[name](cast)
    stored = User.objects.get(pk=alice.pk)
    assert not credentials.is_genuine(stored)
    for password in (PASSWORD, OWN):
        assert not signs_in(stored.email, password)
    for address in {stored.email, "mallory@evil.example"}:
        Client().post("/auth/password/reset/", {"email": address})
    assert [message for message in mail.outbox if "/reset/key/" in str(message.body)] == []


@pytest.mark.parametrize("name", WRITES)
def test_what_was_written_is_never_signed_for(name: str, cast: Cast, alice: User) -> None:
    """Not by a new password, a new factor, a saved row; nor by a hash that is made anew."""
    if name == "an active person again":
        alice.is_active = False
        alice.save()
    WRITES[name](cast)
    stored = User.objects.get(pk=alice.pk)
    browser = Client()
    browser.force_login(stored, backend="accounts.signin.SignedCredentials")
    form = {"oldpassword": PASSWORD, "password1": OWN, "password2": OWN}
    for act in (
        lambda: stored.save(update_fields=["is_staff"]),
        lambda: stored.save(),
        lambda: TOTP.activate(stored, generate_totp_secret()),
        lambda: browser.post("/auth/password/change/", form),
        lambda: browser.post("/auth/2fa/recovery-codes/generate/"),
    ):
        with contextlib.suppress(RowTampered, IntegrityError):
            act()
    assert not credentials.is_genuine(User.objects.get(pk=alice.pk))


def test_a_second_factor_that_was_swapped_after_the_password_lets_nobody_in(cast: Cast, alice: User) -> None:
    browser = Client()
    TOTP.activate(alice, generate_totp_secret())
    assert (
        browser.post("/auth/login/", {"login": alice.email, "password": PASSWORD})
        .headers["Location"]
        .startswith("/auth/2fa/authenticate")
    )
    codes = RecoveryCodes.activate(cast.charlie).get_unused_codes()
    Authenticator.objects.filter(user=alice, type="recovery_codes")._raw_delete("default")
    Authenticator.objects.filter(user=cast.charlie).update(user=alice)
    answer = browser.post("/auth/2fa/authenticate/", {"code": codes[0]})
    assert answer.status_code == 403
    assert browser.get("/").headers["Location"].startswith("/auth/")


def test_a_recovery_code_is_used_and_the_person_stays_genuine(alice: User) -> None:
    codes = RecoveryCodes(Authenticator.objects.get(user=alice))
    assert codes.validate_code(codes.get_unused_codes()[0])
    assert credentials.is_genuine(User.objects.get(pk=alice.pk))


def test_a_former_password_signs_nobody_in_where_the_later_one_was_seen(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attack that succeeded, and does where nothing of it was seen (docs/threat-model.md)."""
    former = User.objects.values("password", "signature", "generation", "factors").get(pk=alice.pk)
    alice.set_password(OWN)
    alice.save()
    User.objects.filter(pk=alice.pk).update(**former)
    monkeypatch.setattr("accounts.rows.RACE_SECONDS", 0.0)  # as if two seconds had passed
    assert not signs_in(alice.email, PASSWORD)
    assert not signs_in(alice.email, OWN)
    memory.forget()
    assert signs_in(alice.email, PASSWORD)


def test_an_operator_gives_a_new_password_and_takes_the_factor_away(
    cast: Cast, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for write in ("another password", "an address more", "another's second factor", "one of the staff"):
        WRITES[write](cast)
    monkeypatch.setattr("sys.stdin", io.StringIO("a new one from the operator\n"))
    with pytest.raises(
        CommandError, match=f"changed past the portal.*{re.escape(cast.account.name)}.*--id {cast.alice.pk}"
    ):
        call_command("reset_credentials", cast.alice.email)
    call_command("reset_credentials", cast.alice.email, id=cast.alice.pk, stdout=io.StringIO())
    stored = User.objects.get(pk=cast.alice.pk)
    assert credentials.is_genuine(stored)
    assert (stored.factors, stored.is_staff) == ({}, False)
    assert signs_in(stored.email, "a new one from the operator")
    told = AuditEntry.objects.filter(account=cast.account, type="user").first()
    assert told is not None
    assert (told.actor_name, "no second factor, from the operator" in told.message) == ("operator", True)


@pytest.mark.parametrize(
    ("email", "password", "says"),
    [("nobody@example.com", "x", "no user"), ("alice@example.com", "short", "too short")],
)
def test_a_reset_that_cannot_be_says_why(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, email: str, password: str, says: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    with pytest.raises(CommandError, match=says):
        call_command("reset_credentials", email, stdout=io.StringIO())
    assert signs_in(cast.alice.email, PASSWORD)


def test_support_staff_are_made_and_unmade_under_the_signature(cast: Cast) -> None:
    from accounts import actions

    actions.add_support_staff(cast.bob)
    assert credentials.is_genuine(User.objects.get(pk=cast.bob.pk))
    actions.remove_support_staff(cast.bob)
    assert credentials.is_genuine(User.objects.get(pk=cast.bob.pk))
    assert Role.objects.get(pk=ADMINISTRATOR).has_valid_signature()


# -- what won on commit b5f6031: written, and put back while the portal was looking ------------------------------------------


class Flip:
    """Rows that are other ones while somebody looks: `now` writes, `back` puts what was there before."""

    def __init__(self, user: User, **written: Any) -> None:
        self.rows = User.objects.filter(pk=user.pk)
        self.before, self.written = self.rows.values(*written).get(), written

    def now(self) -> None:
        self.rows.update(**self.written)

    def back(self) -> None:
        self.rows.update(**self.before)


def test_a_hash_that_is_there_only_while_it_is_tried_is_never_signed(
    alice: User, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """A slow one of the attacker's, which the sign-in wanted to make anew: the row it had loaded became genuine."""
    settings.PASSWORD_HASHERS = [*settings.PASSWORD_HASHERS, "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    slow = PBKDF2PasswordHasher()
    flip = Flip(alice, password=slow.encode(OWN, "salt"), factors={})
    verified = PBKDF2PasswordHasher.verify

    def while_it_is_tried(self: Any, password: str, encoded: str) -> bool:
        flip.back()
        return bool(verified(self, password, encoded))

    monkeypatch.setattr(PBKDF2PasswordHasher, "verify", while_it_is_tried)
    flip.now()
    assert not signs_in(alice.email, OWN)
    stored = User.objects.get(pk=alice.pk)
    assert credentials.is_genuine(stored)
    assert (stored.password, set(stored.factors)) == (alice.password, {"recovery_codes"})


def test_an_address_that_is_there_only_while_it_is_sought_gets_no_link(
    cast: Cast, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sought(self: Any) -> str:
        EmailAddress.objects.create(user=cast.alice, email="thief@evil.example", verified=True)
        try:
            return str(of_the_library(self))
        finally:
            EmailAddress.objects.filter(user=cast.alice).delete()

    of_the_library = ResetPasswordForm.clean_email
    monkeypatch.setattr(ResetPasswordForm, "clean_email", sought)
    Client().post("/auth/password/reset/", {"email": "thief@evil.example"})
    assert [message for message in mail.outbox if "/reset/key/" in str(message.body)] == []


@pytest.mark.parametrize("twin", ["alıce@example.com", "ALICE@example.com", "alice@example.com"])
def test_a_twin_of_the_address_gets_no_link(cast: Cast, alice: User, twin: str) -> None:
    EmailAddress.objects.create(user=cast.alice, email=twin, verified=True)
    Client().post("/auth/password/reset/", {"email": twin})
    sent = [message.to for message in mail.outbox if "/reset/key/" in str(message.body)]
    assert sent in ([], [["alice@example.com"]], [[twin.lower()]])
    assert all(to == ["alice@example.com"] for to in sent)


def test_a_factor_that_is_there_only_while_it_is_judged_lets_nobody_in(
    cast: Cast, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second look of the sign-in's library found the attacker's own factor."""
    TOTP.activate(alice, generate_totp_secret())
    browser = Client()
    browser.post("/auth/login/", {"login": alice.email, "password": PASSWORD})
    codes = RecoveryCodes.activate(cast.charlie).get_unused_codes()
    theirs = Authenticator.objects.get(user=cast.charlie)
    judged = credentials.factors_of

    def then_swapped(user: User) -> list[Authenticator]:
        found = judged(user)
        Authenticator.objects.filter(user=alice)._raw_delete("default")
        Authenticator.objects.filter(pk=theirs.pk).update(user=alice)
        return found

    monkeypatch.setattr(credentials, "factors_of", then_swapped)
    with contextlib.suppress(
        Authenticator.DoesNotExist
    ):  # which the library looks for once more, to tell of the failure
        browser.post("/auth/2fa/authenticate/", {"code": codes[0]})
    assert browser.get("/").headers["Location"].startswith("/auth/")


def test_a_factor_that_is_away_while_it_is_asked_for_is_asked_for_all_the_same(alice: User) -> None:
    TOTP.activate(alice, generate_totp_secret())
    kept = list(Authenticator.objects.filter(user=alice).values())
    Authenticator.objects.filter(user=alice)._raw_delete("default")
    assert is_mfa_enabled(alice), "by the signed row, whatever rows of factors there are"
    Authenticator.objects.bulk_create(Authenticator(**row) for row in kept)
    asked = Client()
    answer = asked.post("/auth/login/", {"login": alice.email, "password": PASSWORD})
    assert answer.headers["Location"].startswith("/auth/2fa/authenticate")


def test_no_role_is_given_to_whoever_bears_the_address_just_then(cast: Cast) -> None:
    rows(cast).update(email="aside@example.com")
    User.objects.filter(pk=cast.charlie.pk).update(email="alice@example.com")
    with pytest.raises(CommandError, match="changed past the portal"):
        call_command("add_member", cast.account.code, "alice@example.com", role=["Administrator"], stdout=io.StringIO())
    assert not cast.charlie.memberships.filter(account=cast.account).exists()


@pytest.mark.parametrize("data", [[], {"seed": 10**40}, "text", {"seed": "\ud800"}])
def test_a_factor_that_is_none_is_an_error_of_nobodys(alice: User, data: Any) -> None:
    with contextlib.suppress(UnicodeEncodeError, DataError):
        Authenticator.objects.filter(user=alice).update(data=data)
        assert not signs_in(alice.email, PASSWORD)
