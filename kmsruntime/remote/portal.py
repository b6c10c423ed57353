"""The HTTP client of the portal's runtime API (`/api/atom/v1/`).

Bounded in every direction: no proxies or credentials from the environment, no redirects, a deadline for the whole answer,
64 MiB at most. Answers are judged by status and content type first, so that a web page or a proxy's error page is
recognised as what it is. Tokens go into the Authorization header and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

from kmsruntime import VERSION
from kmsruntime.errors import PortalMisconfigured, PortalRefused, PortalUnavailable, RuntimeProblem

ANSWER_BYTES: Final = 64 * 1024 * 1024
CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 20.0  # between two pieces of an answer
ANSWER_SECONDS: Final = 120.0
_CODE_CHARACTERS: Final = 64
_API: Final = "/api/atom/v1/"


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx or 304 answer: the decoded JSON object ({} when there is none) and its ETag ("" when there is none)."""

    status: int
    document: dict[str, Any]
    etag: str = ""


class Portal:
    """The portal at one address. `ca`: file of CA certificates, "" for the system's."""

    def __init__(self, address: str, ca: str = "") -> None:
        self._base = address + _API
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca or True
        self._session.headers["User-Agent"] = f"kms-runtime/{VERSION}"
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=4, max_retries=0))

    def get(self, path: str, token: str, *, query: Mapping[str, str] | None = None, etag: str = "") -> Answer:
        """GET; 304 only with an etag. Raises PortalUnavailable, PortalRefused, PortalMisconfigured."""
        return self._request("GET", path, token, query, None, {"If-None-Match": etag} if etag else {})

    def post(self, path: str, token: str, body: Mapping[str, Any]) -> Answer:
        """POST a JSON object. Raises PortalUnavailable, PortalRefused, PortalMisconfigured."""
        return self._request("POST", path, token, None, orjson.dumps(body), {"Content-Type": "application/json"})

    def _request(
        self,
        method: str,
        path: str,
        token: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Answer:
        failure: RuntimeProblem
        try:
            with self._session.request(
                method,
                self._base + path,
                params=query,
                data=body,
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"} | headers,
                timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                return _judged(response, _content(response))
        except requests.exceptions.SSLError:
            failure = PortalMisconfigured(
                "portal_tls_failed",
                "The portal's certificate is not trusted here or names another host; give its CA with --portal-ca.",
            )
        except requests.exceptions.Timeout:
            failure = _slow()
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            failure = _slow() if _timed_out(error) else _unreachable()
        except requests.exceptions.RequestException:
            failure = _not_a_portal(self._base, "sends what cannot be read")
        # Outside the handler: a chained exception would keep the request, token included, alive in tracebacks.
        raise failure


def _content(response: requests.Response) -> bytes:
    deadline = time.monotonic() + ANSWER_SECONDS
    pieces, size = [], 0
    for piece in response.iter_content(256 * 1024):
        size += len(piece)
        if size > ANSWER_BYTES:
            raise _not_a_portal(response.url, "sends more than 64 MiB")
        if time.monotonic() > deadline:
            raise _slow()
        pieces.append(piece)
    return b"".join(pieces)


def _judged(response: requests.Response, content: bytes) -> Answer:
    status = response.status_code
    if status == 304:
        return Answer(status, {}, response.headers.get("ETag", ""))
    if 300 <= status < 400:
        raise PortalMisconfigured(
            "portal_redirects", "The portal's address answers with a redirect; enrol with the address it leads to."
        )
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if status >= 500:
        raise _failing(status, kind, content)
    if status == 204 or (status < 300 and not content):
        return Answer(status, {})
    document = _decoded(content) if kind in ("application/json", "application/problem+json") else None
    if document is None:
        raise _not_a_portal(response.url, "answers with something else than the portal's JSON (a web page, perhaps)")
    if status >= 400:
        raise _refusal(response.url, status, document)
    return Answer(status, document, response.headers.get("ETag", ""))


def _decoded(content: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _refusal(url: str, status: int, document: dict[str, Any]) -> RuntimeProblem:
    code, sentence = _words(document.get("code")), _words(document.get("detail"))
    if status == 429:
        return PortalUnavailable("portal_busy", "The portal is at its rate limit; it is asked again later.")
    if not code or not sentence:
        return _not_a_portal(url, f"refuses without the portal's words (status {status})")
    return PortalRefused(code[:_CODE_CHARACTERS], sentence, status)


def _failing(status: int, kind: str, content: bytes) -> PortalUnavailable:
    document = _decoded(content) if kind == "application/problem+json" else None
    detail = _words(document.get("detail")) if document else ""
    # 503 with a code is the portal speaking (the vault behind it is down, say); anything else is said in our words.
    return PortalUnavailable(
        "portal_failing", detail or f"The portal is failing (status {status}); it is asked again later."
    )


def _words(text: object) -> str:
    """One printable line of at most 300 characters: what a portal says goes to terminals and logs."""
    return "".join(c for c in text if c.isprintable())[:300] if isinstance(text, str) else ""


def _slow() -> PortalUnavailable:
    return PortalUnavailable("portal_timeout", "The portal did not answer in time.")


def _unreachable() -> PortalUnavailable:
    return PortalUnavailable("portal_unreachable", "The portal cannot be reached; check network and address.")


def _timed_out(error: requests.exceptions.RequestException) -> bool:
    # A silence in the middle of an answer comes wrapped as a connection error.
    return any(isinstance(cause, ReadTimeoutError) for cause in error.args)


def _not_a_portal(url: str, what: str) -> PortalMisconfigured:
    address = url.partition(_API)[0]
    return PortalMisconfigured("not_a_portal", f"This is not the portal's address: {address} {what}; check --portal.")
