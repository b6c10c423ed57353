"""What Django refuses before any view sees it."""

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import defaults

from kmsportal.context import chosen_theme

TOO_MUCH = (
    "Nothing was saved: this is more than one save can take, at most 4 MiB of values and 2,000 changed fields. "
    "Save it in parts."
)
_DIALOG = "extensions:environment_extensions"
_DRAINED = 64 * 1024 * 1024


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A form that is too big is told its limits; in the dialog of an environment beside what was typed."""
    if request.path.startswith("/api/") or not isinstance(exception, RequestDataTooBig | TooManyFieldsSent):
        return defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        _drain(request)
    match = request.resolver_match
    if request.headers.get("HX-Request") == "true" and match and match.view_name == _DIALOG:
        context = {"form": {"form_error": TOO_MUCH}, "saves": None}
        response = render(request, "extensions/_extensions_errors.html", context, status=413)
        response.headers["HX-Retarget"] = "#extensions-errors"
        response.headers["HX-Reswap"] = "outerHTML"
        return response
    return render(request, "413.html", {"reason": TOO_MUCH, "theme": chosen_theme(request)}, status=413)


def _drain(request: HttpRequest) -> None:
    """Read what is still coming: a browser whose upload is cut off shows no answer at all."""
    left = _DRAINED
    while left > 0 and (chunk := request.read(65_536)):
        left -= len(chunk)
