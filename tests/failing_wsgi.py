"""The portal's own WSGI application, in which a library fails at a place the header `X-Fail-In` names.

The failure's text is the worst a library could do: everything it was called with. `seal` fails in the cipher, `vault` in
the HTTP client of the vault, `statement` in the database at the save's last statement, `render` in the template engine,
`lint` behind the linter of properties files.
"""

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")

from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: E402
from django.db import connection  # noqa: E402
from django.template.backends import django as templates  # noqa: E402

from kmscore.sealed import envelope  # noqa: E402
from kmscore.vaultclient.http import HttpClient  # noqa: E402
from kmsportal.wsgi import application as portal  # noqa: E402  (sets Django up)
from vaults.panel import form  # noqa: E402

asked = threading.local()


def fail_if_asked(place: str, *involved: Any) -> None:
    if getattr(asked, "place", None) == place:
        raise RuntimeError(f"failed with {involved!r}")


class Cipher:
    def __init__(self, key: bytes) -> None:
        self.key = key

    def encrypt(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        fail_if_asked("seal", self.key, plaintext)
        return AESGCM(self.key).encrypt(nonce, plaintext, associated)


def failing(place: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def perhaps(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        fail_if_asked(place, args, kwargs, getattr(result, "content", result))
        return result

    return perhaps


envelope.AESGCM = Cipher  # type: ignore[assignment,misc]
HttpClient.request = failing("vault", HttpClient.request)  # type: ignore[method-assign]
form.read_properties = failing("lint", form.read_properties)  # type: ignore[attr-defined]
render = templates.Template.render


def failing_render(template: Any, context: Any = None, request: Any = None) -> Any:
    fail_if_asked("render", context, getattr(request, "POST", None))
    return render(template, context, request)


templates.Template.render = failing_render  # type: ignore[method-assign]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    asked.place = environ.get("HTTP_X_FAIL_IN")
    with ExitStack() as stack:
        if asked.place == "statement":
            stack.enter_context(connection.execute_wrapper(_at_the_audit_entry))
        return portal(environ, start_response)


def _at_the_audit_entry(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if "accounts_auditentry" in sql and sql.startswith("INSERT"):
        fail_if_asked("statement", sql, params)
    return execute(sql, params, many, context)
