"""What every answer to a browser gets, written once."""

from collections.abc import Callable
from typing import Any

import structlog
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers

from accounts.post_only import NOTHING_CHANGED
from accounts.privileges import Privilege
from accounts.rows import RowTampered
from accounts.sessions import SessionStore
from extensions.models import FieldTampered
from kmscore.vaultclient.answers import VaultError
from kmsportal.context import chosen_theme

log = structlog.get_logger()
Next = Callable[[HttpRequest], HttpResponse]
FORGED = "A record that grants access here was changed outside the portal, so it grants nothing."
LET_GO = "extensions:environment_let_go"
UNSENT = "unsent"  # cookie: the address this browser posted to after its session had ended
UNSENT_SECONDS = 600  # by then somebody has signed in again, or does not remember
PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"


def browser_headers(get_response: Next) -> Next:
    """No page is stored by a browser or proxy unless a view says otherwise; signing out clears what there is."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path.startswith("/api/"):
            return response
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        if request.path == reverse("account_logout") and request.method == "POST":
            response.headers["Clear-Site-Data"] = '"cache", "storage"'
            if response.status_code < 400:  # also when the session's row is not found: it may be hidden
                SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME)).delete()
        return response

    return middleware


def htmx_redirects(get_response: Next) -> Next:
    """A redirect answers htmx with 204 and HX-Redirect, so that a login page never lands inside a panel."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        patch_vary_headers(response, ("HX-Request",))
        if request.headers.get("HX-Request") == "true" and response.status_code in (301, 302, 303):
            response.headers["HX-Redirect"] = str(response.headers["Location"])
            del response.headers["Location"]
            response.status_code = 204
        return response

    return middleware


class login_required(LoginRequiredMiddleware):  # noqa: N801 (listed like the functions beside it)
    """Everybody signs in. Whoever posted something after the session had ended is told afterwards that it did not arrive.

    A part of a page that is asked for by script is refused with 401: the page stays as it is, with what was typed in it, and
    app.js says what happened and where to sign in again.
    """

    def handle_no_permission(  # type: ignore[override]  # the middleware hands on whatever comes
        self, request: HttpRequest, view_func: Any
    ) -> HttpResponseBase:
        if request.headers.get("HX-Request") == "true":
            return HttpResponse(status=401)
        response = super().handle_no_permission(request, view_func)
        if request.method not in ("GET", "HEAD", "OPTIONS") and not hasattr(
            view_func, "form_page"
        ):  # post_only.py tells
            # A cookie and not a mark in the address: nobody else's link can say it.
            response.set_signed_cookie(
                UNSENT,
                request.path,
                salt=UNSENT,
                max_age=UNSENT_SECONDS,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response


def unsent(get_response: Next) -> Next:
    """Says that nothing was changed, once, on the page that signing in led back to."""

    def middleware(request: Any) -> HttpResponse:
        if UNSENT not in request.COOKIES or not request.user.is_authenticated:
            return get_response(request)
        posted = request.get_signed_cookie(UNSENT, default="", salt=UNSENT, max_age=UNSENT_SECONDS)
        if posted and posted != request.path:
            return get_response(request)
        if posted and request.method == "GET":
            messages.warning(request, NOTHING_CHANGED)
        response = get_response(request)
        if request.method in ("GET", "POST"):  # told; or sent again, so that it is not true any more
            response.delete_cookie(UNSENT, samesite="Lax")
        return response

    return middleware


def refused_methods(get_response: Next) -> Next:
    """A page instead of an empty 405, for which a browser shows an error of its own."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code != 405 or request.path.startswith("/api/"):
            return response
        page = render(request, "405.html", {"theme": chosen_theme(request)}, status=405)
        page.headers["Allow"] = response.headers["Allow"]
        return page

    return middleware


def second_factor(get_response: Next) -> Next:
    """Whoever has no second factor yet can do nothing but set it up, where it is required."""

    def middleware(request: Any) -> HttpResponse:
        exempt = request.path.startswith(("/auth/", "/api/", "/static/")) or request.path in (
            "/theme/",
            "/live",
            "/ready",
        )
        if settings.MFA_REQUIRED and not exempt and request.user.is_authenticated and not is_mfa_enabled(request.user):
            return redirect("mfa_activate_totp")
        return get_response(request)

    return middleware


class vault_errors:  # noqa: N801 (used like the functions beside it; a class because exceptions need process_exception)
    """A vault error no view expected becomes a page with its sentence; the vault's own text is never shown.

    So does a forged row that grants access.
    """

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if request.path.startswith("/api/"):
            return None
        if isinstance(exception, RowTampered):
            log.error("row_forged", path=request.path)
            context = {"reason": f"{FORGED} {exception.mend}", "theme": chosen_theme(request)}
            return render(request, "403.html", context | _way_out(request, exception), status=403)
        if not isinstance(exception, VaultError):
            return None
        context = {"reason": exception.sentence, "theme": chosen_theme(request)}
        return render(request, "503.html", context, status=503)


def _way_out(request: Any, forged: RowTampered) -> dict[str, str]:
    """Where somebody who may lets go of what an environment holds for a forged field."""
    match = request.resolver_match
    stops = isinstance(forged, FieldTampered) and match.view_name == "extensions:environment_extensions"
    return (
        {"let_go_url": reverse(LET_GO, kwargs=match.kwargs)} if stops and request.may(Privilege.ACCOUNT_ADMIN) else {}
    )
