"""Fragments that pages poll: answered with an ETag, and with 304 while they say the same."""

import hashlib
import re
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.loader import render_to_string

# What differs between two renderings that say the same: relative times, which the browser keeps true, and form tokens.
_VOLATILE = re.compile(r"(<time [^>]*>)[^<]*|name=\"csrfmiddlewaretoken\" value=\"[^\"]*\"")


def fragment(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """The rendered fragment, or 304 when the browser shows it already."""
    html = render_to_string(template, context, request)
    tag = f'"{hashlib.sha256(_VOLATILE.sub(chr(92) + "1", html).encode()).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    return HttpResponse(html, headers={"ETag": tag})
