"""A POST after the session has ended changes nothing, and leads through the sign-in back to a page that says so."""

from collections.abc import Iterator
from contextlib import suppress
from html import unescape
from urllib.parse import unquote, urlsplit

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from accounts.models import SupportStaff
from kmsportal.support.records import site
from tests.conftest import PASSWORD, Stage
from tests.kmsportal.test_every_route import SAFE_ONLY
from tests.test_access_matrix import POST_ONLY, ROUTES, address, named_routes, things_with_pages

pytestmark = pytest.mark.django_db(transaction=True)
SAID = "Nothing was changed. Do it again here."
POSTED = [*(route for route in ROUTES if route not in SAFE_ONLY), "accounts:theme"]


def url_of(stage: Stage, route: str) -> str:
    things_with_pages(stage)
    return "/theme/" if route == "accounts:theme" else address(stage, route)


def after_signing_in(client: Client, url: str, email: str) -> list[str]:
    """Post without a session, sign in where that leads, follow `next`: the messages of the page one gets to."""
    cache.clear()  # sign-in rate limits
    answer = client.post(url, {"name": "typed"})
    assert answer.status_code == 302
    sign_in = answer.headers["Location"]
    assert sign_in.startswith("/auth/login/?next=")
    page = client.post(sign_in, {"login": email, "password": PASSWORD}, follow=True)
    assert page.status_code == 200, page.redirect_chain
    assert page.headers["Content-Type"].startswith("text/html")
    assert SAID not in unescape(client.get(page.redirect_chain[-1][0], follow=True).content.decode()), "not twice"
    text = unescape(page.content.decode())
    assert text.lstrip().startswith("<!doctype html>")
    return [SAID] * text.count(SAID)


@pytest.mark.parametrize("route", POSTED)
def test_a_post_without_a_session_leads_back_and_says_that_nothing_was_changed(stage: Stage, route: str) -> None:
    assert after_signing_in(Client(), url_of(stage, route), stage.alice.email) == [SAID]


@pytest.mark.parametrize("route", POSTED)
def test_a_page_with_script_stays_where_it_is(stage: Stage, route: str) -> None:
    """It says itself that the session has ended; what was typed is still there, and no fragment becomes a page."""
    url, client = url_of(stage, route), Client()
    for answer in (client.post(url, headers={"hx-request": "true"}), client.get(url, headers={"hx-request": "true"})):
        assert (answer.status_code, answer.content, "HX-Redirect" in answer.headers) == (401, b"", False)
    assert "unsent" not in client.cookies


def test_what_was_sent_again_and_arrived_is_not_said_to_be_unsent(stage: Stage) -> None:
    """Once it was: a save beside "Nothing was changed", for a browser that had its session again meanwhile."""
    client, url = Client(), url_of(stage, "extensions:environment_extensions")
    client.post(url, {"name": "typed"})
    client.force_login(stage.alice, "accounts.signin.SignedCredentials")
    form = {"expected_revision": "0", f"value.{stage.field('user').pk}": "typed"}
    assert client.post(url, form).status_code == 302
    assert SAID not in unescape(client.get(url).content.decode())


def test_a_page_from_before_one_signed_in_again_gets_the_token_of_now(stage: Stage) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(stage.alice)
    url = address(stage, "extensions:environment_extensions")
    refused = client.post(url, {"csrfmiddlewaretoken": "x" * 64}, headers={"hx-request": "true"})
    assert refused.status_code == 403
    again = client.post(url, {"csrfmiddlewaretoken": refused.headers["X-CSRF-Token"]}, headers={"hx-request": "true"})
    assert again.status_code != 403
    assert "X-CSRF-Token" not in client.post(url, {}).headers, "a page without script has its own way"


def own_addresses() -> list[str]:
    """Every address under /auth/ that has no parts: signing in and out, password, second factor."""
    found = []
    for name in set(get_resolver("allauth.urls").reverse_dict):
        with suppress(NoReverseMatch):
            found.append(reverse(name))
    return sorted(found)


def test_so_do_ones_own_pages(stage: Stage) -> None:
    led_back = []
    for url in own_addresses():
        page = stage.cast.client("alice").get(url, follow=True).status_code
        assert page != 405, f"{url} takes POST only"
        leads = Client().post(url, {}).headers.get("Location", "")
        if page == 200 and leads.startswith("/auth/login/?next="):
            assert after_signing_in(Client(), url, stage.alice.email) == [SAID], url
            led_back.append(url)
    assert {"/auth/password/change/", "/auth/2fa/totp/activate/"} <= set(led_back)


def test_so_do_the_acts_of_the_support_staff(stage: Stage) -> None:
    things_with_pages(stage)
    stage.alice.is_staff = True
    stage.alice.save(update_fields=["is_staff"])
    SupportStaff(user=stage.alice).save(force_insert=True)
    acts = [
        page.address(page.model.objects.all()[0], act.name) for page in site._registry.values() for act in page.acts
    ]
    assert len(acts) > 2
    for url in acts:
        assert after_signing_in(Client(), url, stage.alice.email) == [SAID], url


@pytest.mark.parametrize("path", ["/", "/live", "/%2fexample.org/", "//example.org/", "/\\example.org/"])
def test_no_link_says_it_and_none_leads_to_another_site(stage: Stage, path: str) -> None:
    alice = stage.cast.client("alice")
    answer = alice.get("/", PATH_INFO=unquote(path), QUERY_STRING="unsent=1")
    assert urlsplit(answer.headers.get("Location", "")).netloc == ""
    assert SAID not in alice.get(address(stage, "atoms:atom_management")).content.decode()


def test_only_the_browser_that_posted_is_told_and_only_on_that_page(stage: Stage) -> None:
    url = address(stage, "atoms:atom_create")
    browser = Client()
    sign_in = browser.post(url).headers["Location"]
    assert SAID not in stage.cast.client("alice").get(url).content.decode()
    browser.cookies["unsent"] = browser.cookies["unsent"].value.replace("atoms", "kms")
    page = browser.post(sign_in, {"login": stage.alice.email, "password": PASSWORD}, follow=True)
    assert SAID not in page.content.decode(), "a changed cookie says nothing"
    assert browser.cookies["unsent"].value == ""


def test_what_was_asked_for_in_the_address_is_kept(stage: Stage) -> None:
    url = f"{address(stage, 'extensions:environment_extensions')}?show=missing"
    client = Client()
    sign_in = client.post(url).headers["Location"]
    page = client.post(sign_in, {"login": stage.alice.email, "password": PASSWORD}, follow=True)
    assert page.redirect_chain[-1][0] == url


@pytest.mark.parametrize("route", sorted(POST_ONLY))
def test_opening_an_address_that_takes_post_only_leads_to_the_page_of_its_form(stage: Stage, route: str) -> None:
    page = stage.cast.client("alice").get(url_of(stage, route), follow=True)
    assert (page.status_code, page.content.decode().count(SAID)) == (200, 1)


def test_a_stranger_is_led_nowhere(stage: Stage) -> None:
    things_with_pages(stage)
    for route in sorted(POST_ONLY):
        assert stage.cast.client("charlie").get(address(stage, route), follow=True).status_code == 404, route


def test_no_form_of_the_portal_is_left_out() -> None:
    """Every address of the site is listed above, is only read, or is a door with an own way in."""
    assert named_routes() - set(POSTED) - SAFE_ONLY == {"accounts:account_list", "atoms:runtime_wheel"}
    ours = {"accounts", "operations", "atoms", "vaults", "extensions"}
    elsewhere = {str(one.pattern) for one in _outside(get_resolver().url_patterns, ours)}
    assert elsewhere == {"auth/", "auth/email/", "api/atom/v1/", "support/", "live", "ready", "metrics"}


def _outside(patterns: list[URLResolver | URLPattern], ours: set[str]) -> Iterator[URLResolver | URLPattern]:
    return (one for one in patterns if not (isinstance(one, URLResolver) and one.app_name in ours))
