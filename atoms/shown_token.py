"""An installer token after it was made: shown to the session that made it, for ten minutes, until a machine has enrolled.

The answer to the POST that makes a token is a redirect, so that loading the page again neither posts again nor loses the token.
In between it has to be somewhere. The portal keeps only its hash, and shall: what lies in the database or in Redis is copied,
replicated and backed up, and a token lets a machine read what an environment holds; an address is logged and remembered. So it
is kept by the browser that has it on its screen anyway, in a cookie that the browser's scripts cannot read, that no other site
can cause to be sent, and that goes to this one page only. It is sealed all the same, for who looks at the cookie: under a key
derived from SECRET_KEY, bound to the person, the session and the row of the token. Without the session it opens nowhere, and
whatever ends the row (spent, withdrawn, expired) ends the showing, here and not by the browser's good will.
"""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from atoms.models import Atom, InstallerToken, token_hash

SHOWN_FOR: Final = timedelta(minutes=10)
_NONCE: Final = 12  # bytes


def keep(request: Any, response: HttpResponse, row: InstallerToken, token: str) -> None:
    """Have the browser bring the token back to the Installation page of its Atom."""
    nonce = os.urandom(_NONCE)
    sealed = nonce + AESGCM(_key()).encrypt(nonce, token.encode(), _bound(request, row))
    response.set_cookie(
        settings.INSTALLER_TOKEN_COOKIE_NAME,
        urlsafe_b64encode(sealed).decode(),
        max_age=SHOWN_FOR,
        path=_path(row.atom),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def shown(request: Any, row: InstallerToken | None) -> str:
    """The token of this row, "" when it is not to be shown: to somebody else, too late, or when there is none."""
    kept = request.COOKIES.get(settings.INSTALLER_TOKEN_COOKIE_NAME, "")
    if not kept or row is None or not row.is_open or timezone.now() - row.created_at > SHOWN_FOR:
        return ""
    try:
        sealed = urlsafe_b64decode(kept)
        token = AESGCM(_key()).decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound(request, row)).decode()
    except (InvalidTag, ValueError):  # of another session, or no cookie of ours
        return ""
    return token if token_hash(token) == bytes(row.token_hash) else ""


def forget(request: Any, response: HttpResponse, atom: Atom) -> None:
    """Take it from the browser, where it has it."""
    if settings.INSTALLER_TOKEN_COOKIE_NAME in request.COOKIES:
        response.delete_cookie(settings.INSTALLER_TOKEN_COOKIE_NAME, path=_path(atom), samesite="Strict")


def _path(atom: Atom) -> str:
    return reverse("atoms:atom_install", args=[atom.account.code, atom.pk])


def _bound(request: Any, row: InstallerToken) -> bytes:
    return orjson.dumps([str(request.user.pk), request.session.session_key, str(row.pk)])


def _key() -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"installer token shown again").derive(settings.SECRET_KEY.encode())
