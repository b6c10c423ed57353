"""A browser without a screen: cookies, a CSRF token, and no redirect followed."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@dataclass(frozen=True)
class Answer:
    """What came, of any status."""

    status: int
    location: str
    text: str


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Visitor:
    """At the portal of `url`."""

    def __init__(self, url: str) -> None:
        self.url, self.cookies = url, http.cookiejar.CookieJar()
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies), _Stay())
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str) -> Answer:
        return self._send(urllib.request.Request(self.url + path))  # noqa: S310 (loopback)

    def token(self, path: str) -> str:
        """What a form of this page sends along."""
        found = _TOKEN.search(self.get(path).text)
        assert found is not None, path
        return found[1]

    def post(self, path: str, form: dict[str, str], token: str = "") -> Answer:
        """With the token of the page of the same path, unless one was taken before."""
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": token or self.token(path), **form}).encode()
        return self._send(urllib.request.Request(self.url + path, data=body))  # noqa: S310

    def sign_in(self, email: str, password: str) -> None:
        answer = self.post("/auth/login/", {"login": email, "password": password})
        assert answer.status == 302, answer.text[-2000:]

    def take_cookie(self, name: str, value: str) -> None:
        """As somebody who found it out would set it."""
        host = urllib.parse.urlsplit(self.url).hostname or ""
        self.cookies.set_cookie(
            http.cookiejar.Cookie(
                *(0, name, value, None, False, host, False, False, "/", True, False, None, True, None, None, {})
            )
        )

    def _send(self, request: urllib.request.Request) -> Answer:
        request.add_header("Accept", "text/html")
        request.add_header("Referer", self.url + "/")
        try:
            answer = self._opener.open(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode(errors="replace")
            return Answer(answer.status, answer.headers.get("Location", ""), text)
