"""Addresses that take POST only, and what is said when a POST did not arrive."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

NOTHING_CHANGED = "Nothing was changed. Do it again here."


def post_only(page: str) -> Callable[[Callable[..., Any]], Callable[..., HttpResponse]]:
    """For a view that takes POST only, from a form on `page`: the name of a view whose address has the same parts.

    A GET leads to that page and says that nothing was changed. It comes after the session had ended, when signing in goes
    on to the address that was posted to; answered with 405, a browser shows an error page of its own. Other methods are 405.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def posted(request: HttpRequest, **parts: Any) -> HttpResponse:
            if request.method == "POST":
                return view(request, **parts)  # type: ignore[no-any-return]
            messages.warning(request, NOTHING_CHANGED)
            return redirect(page, **parts)

        guarded: Any = require_http_methods(["GET", "HEAD", "POST"])(posted)
        guarded.form_page = page
        return guarded  # type: ignore[no-any-return]

    return decorate
