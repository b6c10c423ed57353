"""What holds for every address: headers, methods, CSRF, no inline script or style, and nothing said about unknown ids."""

from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from atoms.models import Atom
from tests.conftest import PASSWORD, Stage
from tests.extensions.dialog import Dialog
from tests.test_access_matrix import POST_ONLY, ROUTES, address, things_with_pages

pytestmark = pytest.mark.django_db(transaction=True)
OPEN = ("/auth/login/", "/auth/signup/", "/auth/password/reset/", "/live", "/ready", "/no/such/page")
OWN = ("/", "/auth/logout/", "/auth/password/change/", "/auth/2fa/", "/auth/2fa/totp/activate/")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SAFE_ONLY = {
    "operations:operation_detail",
    "operations:operation_receipt",
    "vaults:shred_certificate",
    "extensions:reentry_list",
    "accounts:audit_log",
    "operations:operation_list",
    "atoms:atom_management",
    "atoms:atom_tree",
    "atoms:atom_nodes",
    "atoms:atom_detail",
    "atoms:revocation",
    "atoms:environment_detail",
    "vaults:kms_account",
    "vaults:kms_panel",
    "vaults:kms_policy",
    "vaults:kms_policy_file",
    "extensions:connection_list",
}


@pytest.fixture
def scene(stage: Stage) -> Stage:
    things_with_pages(stage)
    Dialog(stage).post(secret_password="something", value_user="<b>bold</b>")
    return stage


def answers(stage: Stage) -> list[tuple[str, Any]]:
    """(what was asked, answer) for every page, as full page and for htmx, signed in and not; errors included."""
    alice, found = stage.cast.client("alice"), []
    pages = [address(stage, route) for route in ROUTES if route not in POST_ONLY]
    for url in [*pages, *OWN]:
        found += [(url, alice.get(url)), (f"{url} by htmx", alice.get(url, headers={"hx-request": "true"}))]
        found.append((f"{url} signed out", Client().get(url)))
    found += [(url, Client().get(url)) for url in OPEN]
    for route in ROUTES:
        found.append((f"POST {route}", alice.post(address(stage, route), {})))
    return found


def test_every_answer_has_the_headers(scene: Stage) -> None:
    for what, answer in answers(scene):
        policy = "; ".join(sorted(answer.headers.get("Content-Security-Policy", "").split("; ")))
        assert policy == "; ".join(sorted(POLICY.split("; "))), what
        found = {name: answer.headers.get(name) for name in HEADERS}
        assert found == HEADERS, what
        assert "no-store" in answer.headers["Cache-Control"], what
        assert "camera=()" in answer.headers["Permissions-Policy"], what


class Inline(HTMLParser):
    """Collects what the policy would block: inline scripts and styles, handlers, addresses of other places."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            text = (value or "").strip().lower()
            inline = (
                name == "style" or name.startswith(("on", "hx-on")) or text.startswith(("javascript:", "vbscript:"))
            )
            foreign = name in ("src", "href", "action") and text.startswith(("http:", "https:", "//"))
            if inline or (foreign and not text.startswith("http://localhost")):
                self.found.append(f"{tag} {name}={value}")


def test_no_page_has_anything_inline(scene: Stage) -> None:
    pages = 0
    for what, answer in answers(scene):
        if not answer.headers.get("Content-Type", "").startswith("text/html") or not answer.content:
            continue
        parser = Inline()
        parser.feed(answer.content.decode())
        assert parser.found == [], what
        pages += 1
    assert pages > 60


def test_the_parser_finds_what_is_inline() -> None:
    parser = Inline()
    parser.feed(
        "<style>a{}</style><script>1</script><p style='a'><a onclick=x href='javascript:1'><img src=//evil.example>"
    )
    assert len(parser.found) == 6


@pytest.mark.parametrize("route", [route for route in ROUTES])
def test_other_methods_are_405(scene: Stage, route: str) -> None:
    alice, url = scene.cast.client("alice"), address(scene, route)
    refused = {"put", "patch", "delete"} | ({"post"} if route in SAFE_ONLY else set())
    assert {method for method in ("get", "post", "put", "patch", "delete") if _is_405(alice, method, url)} == refused


def test_a_refused_method_is_answered_with_a_page(scene: Stage) -> None:
    answer = scene.cast.client("alice").post(address(scene, "atoms:atom_detail"))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert "This address does not take that request" in answer.content.decode()


def _is_405(client: Client, method: str, url: str) -> bool:
    return bool(getattr(client, method)(url).status_code == 405)


def test_every_unsafe_route_wants_a_csrf_token(scene: Stage) -> None:
    client = Client(enforce_csrf_checks=True)
    login = client.get("/auth/login/")
    token = login.context["csrf_token"]
    form = {"login": scene.alice.email, "password": PASSWORD, "csrfmiddlewaretoken": str(token)}
    assert client.post("/auth/login/", form).status_code == 302
    unsafe = [address(scene, route) for route in ROUTES if route not in SAFE_ONLY]
    for url in [*unsafe, "/theme/", "/auth/logout/", "/auth/login/", "/auth/password/change/"]:
        answer = client.post(url, {"name": "x"})
        assert answer.status_code == 403, url
        assert "<h1" in answer.content.decode()


@pytest.mark.parametrize(
    "path",
    [
        "atoms/00000000-0000-4000-8000-000000000000/",
        "atoms/00000000-0000-4000-8000-000000000000/kms/",
        "environments/00000000-0000-4000-8000-000000000000/extensions/",
        "connections/00000000-0000-4000-8000-000000000000/",
        "atoms/not-an-id/",
    ],
)
def test_an_unknown_id_is_404(scene: Stage, path: str) -> None:
    answer = scene.cast.client("alice").get(f"/accounts/{scene.account.code}/{path}")
    assert answer.status_code == 404
    assert "<h1" in answer.content.decode()


def test_a_forged_attachment_shows_nothing_and_says_so(scene: Stage) -> None:
    Atom.objects.filter(pk=scene.atom.pk).update(attached_to=scene.test)
    for route in ("atoms:atom_detail", "vaults:kms_panel"):
        answer = scene.cast.client("alice").get(reverse(route, args=[scene.account.code, scene.atom.pk]))
        assert answer.status_code == 403
        assert "changed outside the portal" in answer.content.decode()
