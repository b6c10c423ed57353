"""Signing in: closed to strangers, slow for guessers, two factors where required, and nothing left behind afterwards."""

import time
from typing import Any

import pytest
import time_machine
from django.test import Client

from accounts.models import User
from tests.conftest import PASSWORD, Cast, client_of

pytestmark = pytest.mark.django_db(transaction=True)


def sign_in(email: str, password: str, address: str = "127.0.0.1") -> Any:
    return Client(REMOTE_ADDR=address).post("/auth/login/", {"login": email, "password": password})


def test_nobody_signs_up(cast: Cast) -> None:
    form = {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD}
    answer = Client().post("/auth/signup/", form)
    assert "There is no sign-up" in answer.content.decode()
    assert not User.objects.filter(email="new@example.com").exists()


def test_guessing_is_slowed_down_and_others_still_get_in(cast: Cast) -> None:
    answers = [sign_in(cast.alice.email, f"guess number {number}", "192.0.2.1") for number in range(12)]
    assert "Too many" in answers[-1].content.decode()
    assert sign_in(cast.alice.email, PASSWORD, "192.0.2.1").status_code == 200, "the guesser gets no further"
    assert sign_in(cast.bob.email, PASSWORD, "192.0.2.2").status_code == 302
    spoofed = Client(REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="198.51.100.9")
    assert spoofed.post("/auth/login/", {"login": cast.alice.email, "password": PASSWORD}).status_code == 200


def test_behind_a_proxy_the_clients_address_counts(cast: Cast, settings: Any) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1

    def proxied(client: str, email: str, password: str) -> Any:
        browser = Client(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"203.0.113.7, {client}")
        return browser.post("/auth/login/", {"login": email, "password": password})

    for number in range(12):
        guess = proxied("192.0.2.1", f"guess-{number}@example.com", "guess")
    assert "Too many" in guess.content.decode()
    assert proxied("192.0.2.1", cast.bob.email, PASSWORD).status_code == 200
    assert proxied("192.0.2.2", cast.bob.email, PASSWORD).status_code == 302


def test_a_portal_without_mail_says_whom_to_ask(cast: Cast, settings: Any) -> None:
    assert "Send the link" in Client().get("/auth/password/reset/").content.decode()
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    page = Client().get("/auth/password/reset/").content.decode()
    assert "Ask its operator" in page
    assert "Send the link" not in page


def test_a_wrong_password_and_an_unknown_person_look_the_same(cast: Cast) -> None:
    known, unknown = sign_in(cast.alice.email, "not it at all"), sign_in("nobody@example.com", "not it at all")
    errors = [answer.context["form"].errors.get_json_data() for answer in (known, unknown)]
    assert errors[0] == errors[1]
    assert "not correct" in str(errors[0])


def test_the_second_factor_is_required_where_it_is(cast: Cast, settings: Any) -> None:
    client = client_of(cast.alice)
    settings.MFA_REQUIRED = True
    for page in ("/", f"/accounts/{cast.account.code}/atoms/", f"/accounts/{cast.account.code}/environments/new/"):
        for answer in (client.get(page), client.post(page, {})):
            assert (answer.status_code, answer.headers["Location"]) == (302, "/auth/2fa/totp/activate/")
    by_htmx = client.get(f"/accounts/{cast.account.code}/atoms/", headers={"hx-request": "true"})
    assert (by_htmx.status_code, by_htmx.headers["HX-Redirect"]) == (204, "/auth/2fa/totp/activate/")
    assert client.post("/auth/reauthenticate/", {"password": PASSWORD}).status_code == 302
    activate(client)
    assert client.get(f"/accounts/{cast.account.code}/atoms/").status_code == 200
    again = Client()
    answer = again.post("/auth/login/", {"login": cast.alice.email, "password": PASSWORD})
    assert answer.headers["Location"] == "/auth/2fa/authenticate/"
    assert again.get(f"/accounts/{cast.account.code}/atoms/").status_code == 302


def activate(client: Client) -> None:
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time

    page = client.get("/auth/2fa/totp/activate/")
    secret = page.context["form"].secret
    with time_machine.travel(time.time(), tick=False):  # a code is good for its 30 seconds, which may end just now
        code = format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))
        assert client.post("/auth/2fa/totp/activate/", {"code": code}).status_code == 302


def test_signing_out_leaves_nothing_in_the_browser(cast: Cast) -> None:
    client = client_of(cast.alice)
    answer = client.post("/auth/logout/")
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert client.get(f"/accounts/{cast.account.code}/atoms/").status_code == 302


def test_signing_in_gives_a_new_session(cast: Cast) -> None:
    client = Client()
    client.get("/auth/login/")
    client.session["x"] = "before"
    before = client.session.session_key
    client.post("/auth/login/", {"login": cast.alice.email, "password": PASSWORD})
    assert client.session.session_key not in (None, before)


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_signing_in_leads_to_no_other_place(cast: Cast, target: str) -> None:
    form = {"login": cast.alice.email, "password": PASSWORD, "next": target}
    assert Client().post("/auth/login/", form).headers["Location"] == "/"
