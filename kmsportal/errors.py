"""What Django refuses before any view sees it."""

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.views import defaults

from kmsportal.context import chosen_theme

TOO_MUCH = (
    "Nothing was saved: this is more than one save can take, at most 4 MiB of values and 2,000 changed fields. "
    "Save it in parts."
)
FILE_TOO_LARGE = "Nothing was saved: the file is larger than 16 KiB, the most a properties file can be."
# Where a form says by itself what is too much: the reason, its messages' template and their place.
_FORMS = {
    "extensions:environment_extensions": (TOO_MUCH, "extensions/_extensions_errors.html", "#extensions-errors"),
    "vaults:kms_settings": (FILE_TOO_LARGE, "vaults/_kms_errors.html", "#kms-errors"),
    "vaults:kms_check": (FILE_TOO_LARGE, "vaults/_kms_errors.html", "#kms-errors"),
}
CSRF_HEADER = "X-CSRF-Token"
_DRAINED = 64 * 1024 * 1024


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A form that is too big is told its limits; in a dialog beside what was typed."""
    if request.path.startswith("/api/") or not isinstance(exception, RequestDataTooBig | TooManyFieldsSent):
        return defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        _drain(request)
    match = request.resolver_match
    reason, template, place = _FORMS.get(match.view_name if match else "", (TOO_MUCH, "", ""))
    if template and request.headers.get("HX-Request") == "true":
        context = {"form": {"form_error": reason}, "saves": None, "failure": reason, "edits": None}
        response = render(request, template, context, status=413)
        response.headers["HX-Retarget"] = place
        response.headers["HX-Reswap"] = "outerHTML"
        return response
    return render(request, "413.html", {"reason": reason, "theme": chosen_theme(request)}, status=413)


def _drain(request: HttpRequest) -> None:
    """Read what is still coming: a browser whose upload is cut off shows no answer at all."""
    left = _DRAINED
    while left > 0 and (chunk := request.read(65_536)):
        left -= len(chunk)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form from before its sender signed in again: a page that says so; a page with script gets the token of now with it.

    Only pages of this portal can read that header, and each of them has the token anyway.
    """
    response = render(request, "403_csrf.html", {"theme": chosen_theme(request)}, status=403)
    if request.headers.get("HX-Request") == "true":
        response.headers[CSRF_HEADER] = get_token(request)
    return response
