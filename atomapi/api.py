"""The runtime's door: one API, one shape of error (RFC 9457 problem details with a code of ours)."""

from typing import Any

import orjson
import structlog
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from accounts.rows import RowTampered
from atomapi import enrol, kms_settings, report, selfcheck, sync
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultError, VaultUnavailable

log = structlog.get_logger()
api = NinjaAPI(title="Atom API", version="1", urls_namespace="atomapi", docs_url=None, openapi_url="openapi.json")
api.add_router("", enrol.router)
api.add_router("", sync.router)
api.add_router("", report.router)
api.add_router("", kms_settings.router)
api.add_router("", selfcheck.router)

REFUSALS = {
    "installer_token_unknown": 401,
    "kms_inactive": 403,
    "too_many_requests": 429,
}  # every other refusal is a conflict


def problem(status: int, code: str, sentence: str) -> HttpResponse:
    """`application/problem+json` {"title", "status", "code", "detail"}; the detail is a sentence for people."""
    body = {"title": code.replace("_", " "), "status": status, "code": code, "detail": sentence}
    return HttpResponse(orjson.dumps(body), status=status, content_type="application/problem+json")


@api.exception_handler(Refused)
def refused(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(REFUSALS.get(error.code, 409), error.code, error.sentence)


@api.exception_handler(AuthenticationError)
def unknown_credential(request: HttpRequest, error: Any) -> HttpResponse:
    sentence = (
        "This credential is not known: it was revoked, or the Atom was deleted. To come back, remove the container's "
        "directory or move it away, for a new enrolment takes nothing from it, and enrol with a new installer token."
    )
    return problem(401, "credential_unknown", sentence)


@api.exception_handler(RowTampered)
def forged(request: HttpRequest, error: Any) -> HttpResponse:
    sentence = (
        "The portal's record of this Atom was changed outside the portal, so it grants nothing. Tell its operator."
    )
    return problem(403, "record_forged", sentence)


@api.exception_handler(ValidationError)
def invalid(request: HttpRequest, error: Any) -> HttpResponse:
    places = sorted({".".join(str(part) for part in row.get("loc", ())[1:]) for row in error.errors})
    return problem(422, "request_invalid", f"The request is not of the API's form: {', '.join(places)[:200]}.")


@api.exception_handler(HttpError)
def unreadable(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(error.status_code, "request_unreadable", "The request's body is not JSON this API can read.")


@api.exception_handler(Exception)
def unexpected(request: HttpRequest, error: Any) -> HttpResponse:
    log.error("atomapi_error", error=type(error).__name__, exc_info=error)
    return problem(
        500, "internal_error", "The portal failed inside; its log has the type of the error. Try again later."
    )


@api.exception_handler(RequestDataTooBig)
def too_big(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(413, "request_too_big", "The request is larger than this API takes.")


@api.exception_handler(VaultError)
def vault_failed(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(503 if isinstance(error, VaultUnavailable) else 502, error.code, f"Hosted vault: {error.sentence}")
