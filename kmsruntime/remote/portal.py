"""The HTTP client of the portal's runtime API (`/api/atom/v1/`).

Bounded in every direction: no proxies or credentials from the environment, no redirects, a deadline for the whole answer,
64 MiB at most. Answers are judged by status and content type first, so that a web page or a proxy's error page is
recognised as what it is. Tokens go into the Authorization header and nowhere else.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from kmscore.vaultclient.http import HttpAnswer, HttpClient, HttpFailed, Limits
from kmscore.vaultclient.tls import TLS_SENTENCES, TlsFileInvalid, client_context
from kmsruntime import VERSION
from kmsruntime.errors import PortalMisconfigured, PortalRefused, PortalUnavailable, RuntimeProblem

ANSWER_BYTES: Final = 64 * 1024 * 1024
CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 20.0  # between two pieces of an answer
ANSWER_SECONDS: Final = 120.0  # from when a request is sent to the end of its answer
_SENTENCE_CHARACTERS: Final = 300
REFUSED: Final = "portal_refused"  # by a code that is none of:
CODES: Final = frozenset(  # of the API's refusals, as docs/api.md has them
    {
        *("installer_token_unknown", "installer_token_spent", "installer_token_expired", "installer_token_withdrawn"),
        *("installer_token_in_use", "credential_unknown", "credential_taken", "kms_inactive", "record_forged"),
        *("enrolment_unknown", "enrolment_intruded", "too_many_deliveries", "nothing_to_confirm", "accessor_unknown"),
        *("node_exists", "unattached", "not_provisioned", "selfcheck_not_ready", "selfcheck_changed"),
        *("challenge_unknown", "proof_wrong", "request_invalid", "request_unreadable", "request_too_big"),
    }
)
_ETAG: Final = re.compile(r"[!-~]{1,200}")  # it is sent back: visible ASCII, as RFC 9110 (8.8.3) has it
_API: Final = "/api/atom/v1/"
_PROGRAM: Final = f"kms-runtime/{VERSION}"


@dataclass(frozen=True, slots=True)
class PortalAnswer:
    """A 2xx or 304 answer: the decoded JSON object ({} when there is none) and its ETag ("" without one that can be used)."""

    status: int
    document: dict[str, Any]
    etag: str = ""


class Portal:
    """The portal at one address. `ca`: file of CA certificates, "" for the public ones."""

    def __init__(self, address: str, ca: str = "") -> None:
        self._address, self._ca = address, ca

    @cached_property
    def _http(self) -> HttpClient:
        """Made at the first request: reading the authorities takes longer than all else, and `get` may need none."""
        limits = Limits(CONNECT_SECONDS, SILENCE_SECONDS, ANSWER_SECONDS, ANSWER_BYTES)
        return HttpClient(self._address, _context(self._address, self._ca), limits)

    def get(self, path: str, token: str, *, query: Mapping[str, str] | None = None, etag: str = "") -> PortalAnswer:
        """GET; 304 only with an etag. Raises PortalUnavailable, PortalRefused, PortalMisconfigured."""
        path = f"{path}?{urlencode(query)}" if query else path
        return self._request("GET", path, token, None, {"If-None-Match": etag} if etag else {})

    def post(self, path: str, token: str, body: Mapping[str, Any]) -> PortalAnswer:
        """POST a JSON object. Raises PortalUnavailable, PortalRefused, PortalMisconfigured."""
        return self._request("POST", path, token, orjson.dumps(body), {"Content-Type": "application/json"})

    def _request(
        self, method: str, path: str, token: str, body: bytes | None, headers: Mapping[str, str]
    ) -> PortalAnswer:
        sent = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": _PROGRAM, **headers}
        try:
            found = self._http.request(method, _API + path, sent, body)
        except HttpFailed as failed:
            code = failed.code
        else:
            return _judged(self._address, found, conditional="If-None-Match" in headers)
        # Outside the handler: a chained exception would keep the request, token included, alive in tracebacks.
        raise _failure(self._address, code)


def _context(address: str, ca: str) -> ssl.SSLContext | None:
    if address.startswith("http://"):
        return None
    try:
        return client_context(ca)
    except TlsFileInvalid:
        pass
    raise PortalMisconfigured(
        "ca_invalid", f"The CA file for the portal, {ca}, is not readable or holds no certificates (PEM)."
    )


def _failure(address: str, code: str) -> RuntimeProblem:
    """The error that http.HttpFailed's code stands for; not raised here."""
    if code in TLS_SENTENCES:
        return PortalMisconfigured(
            "portal_tls_failed",
            "The portal's certificate is not trusted here or names another host; give its CA with --portal-ca.",
        )
    if code == "timeout":
        return PortalUnavailable("portal_timeout", "The portal did not answer in time.")
    if code == "unreachable":
        return PortalUnavailable("portal_unreachable", "The portal cannot be reached; check network and address.")
    return _not_a_portal(address, "sends more than 64 MiB" if code == "too_large" else "sends what cannot be read")


def _judged(address: str, found: HttpAnswer, *, conditional: bool) -> PortalAnswer:
    status, content = found.status, found.content
    etag = found.headers.get("ETag", "")
    etag = etag if _ETAG.fullmatch(etag) else ""
    if status == 304:
        if not conditional:
            raise _not_a_portal(address, "says that nothing changed, which nobody asked")
        return PortalAnswer(status, {}, etag)
    if 300 <= status < 400:
        raise PortalMisconfigured(
            "portal_redirects", "The portal's address answers with a redirect; enrol with the address it leads to."
        )
    kind = found.media_type
    if status >= 500:
        raise _failing(status, kind, content)
    if status == 204 or (status < 300 and not content):
        return PortalAnswer(status, {})
    document = _decoded(content) if kind in ("application/json", "application/problem+json") else None
    if document is None:
        raise _not_a_portal(address, "answers with something else than the portal's JSON (a web page, perhaps)")
    if status >= 400:
        raise _refusal(address, status, document)
    return PortalAnswer(status, document, etag)


def _decoded(content: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _refusal(address: str, status: int, document: dict[str, Any]) -> RuntimeProblem:
    code, sentence = _words(document.get("code")), _words(document.get("detail"))
    if status == 429:
        return PortalUnavailable("portal_busy", "The portal is at its rate limit; it is asked again later.")
    if not code or not sentence:
        return _not_a_portal(address, f"refuses without the portal's words (status {status})")
    # Any other could be one of our own: a verdict ("ok"), or what a hand-over or a switch is decided by.
    return PortalRefused(code if code in CODES else REFUSED, sentence, status)


def _failing(status: int, kind: str, content: bytes) -> PortalUnavailable:
    document = _decoded(content) if kind == "application/problem+json" else None
    detail = _words(document.get("detail")) if document else ""
    # 503 with a code is the portal speaking (the vault behind it is down, say); anything else is said in our words.
    return PortalUnavailable(
        "portal_failing", detail or f"The portal is failing (status {status}); it is asked again later."
    )


def _words(text: object) -> str:
    """One printable line of at most 300 characters: what a portal says goes to terminals and logs.

    Cut first: an answer may be all one sentence, and each of its characters alone takes many times its room.
    """
    return "".join(filter(str.isprintable, text[:_SENTENCE_CHARACTERS])) if isinstance(text, str) else ""


def _not_a_portal(address: str, what: str) -> PortalMisconfigured:
    return PortalMisconfigured("not_a_portal", f"This is not the portal's address: {address} {what}; check --portal.")
