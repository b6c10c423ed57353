"""A person at the portal without a browser: signs in and posts forms over real HTTP."""

from typing import Any

import requests


class Person:
    """A signed-in session; `post` adds the CSRF token the way a form does. `seen` is every answer it got."""

    def __init__(self, url: str, email: str, password: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        # The server ends a kept connection after two quiet seconds; a form sent into that end is a reset, which browsers repeat.
        self.session.headers["Connection"] = "close"
        self.seen: list[requests.Response] = []
        self.session.hooks["response"].append(lambda answer, *_, **__: self.seen.append(answer))
        self.get("/auth/login/")
        answer = self.post("/auth/login/", {"login": email, "password": password})
        assert answer.status_code == 302, "signing in failed"

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(self.url + path, headers=headers, timeout=30, allow_redirects=False)

    def post(self, path: str, data: dict[str, Any], *, file: str = "", **headers: str) -> requests.Response:
        """`file` is the text of an application.yaml to upload as the field `file`."""
        token = next((cookie.value for cookie in self.session.cookies if cookie.name.startswith("csrf-")), "")
        form = {"csrfmiddlewaretoken": token, **data}
        headers = {"Referer": self.url + path, **headers}
        files = {"file": ("application.yaml", file)} if file else None
        return self.session.post(self.url + path, form, files=files, headers=headers, timeout=30, allow_redirects=False)
