"""Second factors as they are stored: encrypted, under a key that is not in the database.

Whoever reads the database, a replica or a dump has no code to type. What is not of our making fits no code, and is never taken
for an empty secret, whose codes anybody could work out.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Collection
from typing import Any

import structlog
from allauth.mfa import app_settings
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

FORM = "aes256-gcm:1:"  # what is stored begins with
_NONCE_BYTES = 12
log = structlog.get_logger()


class SecondFactorAdapter(DefaultMFAAdapter):
    """The hooks of the sign-in library; its texts are base32 secrets and hexadecimal seeds."""

    def is_mfa_enabled(self, user: Any, types: Collection[str] | None = None) -> bool:
        """By the person's signed row, whatever rows of factors are there just now. Raises RowTampered."""
        from accounts.models import User  # settings name this module before models are there

        held = set(User.objects.get(pk=user.pk).verified(pk=user.pk).factors)
        return bool(held & {str(kind) for kind in types or app_settings.SUPPORTED_TYPES})

    def encrypt(self, text: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(_key()).encrypt(nonce, text.encode(), FORM.encode())
        return FORM + base64.b64encode(sealed).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Of what cannot be read, a secret that nobody has: its codes never fit, and the person's other factors still do."""
        try:
            if isinstance(encrypted_text, str) and encrypted_text.startswith(FORM):
                sealed = base64.b64decode(encrypted_text.removeprefix(FORM), validate=True)
                nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
                return AESGCM(_key()).decrypt(nonce, rest, FORM.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            pass
        log.error("second_factor_unreadable")
        return base64.b32encode(os.urandom(20)).decode()


def _key() -> bytes:
    """Of the key of sessions, for this purpose alone."""
    return hmac.digest(settings.SECRET_KEY.encode(), b"accounts.second_factors", hashlib.sha256)
