"""Sessions: kept by the hash of their key, and each row's content authenticated for that key.

Whoever reads the database has no key to put into a cookie; whoever writes to it makes no session, and moves none to another
key. A session lasts from when it was made, whatever the row says of its end, and whatever was confirmed since then.
"""

import hashlib
import time
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from accounts import memory

CLOCKS = 60  # seconds that two web servers' clocks may differ by
MADE = "_made"  # seconds since 1970; within the authenticated content


class SessionStore(DatabaseStore):
    """Django's database store, but for what stands in the table."""

    @classmethod
    def get_model_class(cls) -> Any:
        from accounts.models import Session  # settings name this module before models are there

        return Session

    @property
    def key_salt(self) -> str:
        """What the signature over the content stands for, besides the content."""
        return f"accounts.sessions.{_hashed(self.session_key or '')}"

    def load(self) -> dict[str, Any]:
        name = _hashed(self.session_key or "")
        found = self._rows(self.session_key).filter(expire_date__gt=timezone.now()).first()
        genuine = found is not None and found.session_key == name and not memory.is_over(name)
        content: dict[str, Any] = self.decode(found.session_data) if genuine else {}
        made = content.get(MADE)
        if not isinstance(made, int) or not -CLOCKS <= time.time() - made < settings.SESSION_COOKIE_AGE:
            self._session_key = None
            return {}
        return content

    def exists(self, session_key: str) -> bool:
        return bool(self._rows(session_key).exists())

    def cycle_key(self) -> None:
        """Somebody signed in: this is another session."""
        super().cycle_key()
        self[MADE] = int(time.time())

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        key = self._get_or_create_session_key()  # type: ignore[attr-defined]  # the stubs leave it out
        data.setdefault(MADE, int(time.time()))
        return self.model(session_key=_hashed(key), session_data=self.encode(data), expire_date=self.get_expiry_date())

    def delete(self, session_key: str | None = None) -> None:
        """It is over, and stays so when its row is put back, or was hidden until now."""
        key = session_key or self.session_key
        self._rows(key).delete()
        if key and _is_ours(key):
            memory.remember_until(_hashed(key), time.time() + settings.SESSION_COOKIE_AGE)

    def _get_new_session_key(self) -> str:
        """With a proof that we made it, so that nobody fills our memory with ends of others."""
        key = super()._get_new_session_key()  # type: ignore[misc]  # the stubs leave it out
        return f"{key}{_proof(key)}"

    def _rows(self, session_key: str | None) -> Any:
        return self.model.objects.filter(session_key=_hashed(session_key or ""))


def _proof(key: str) -> str:
    return salted_hmac("accounts.sessions.key", key, algorithm="sha256").hexdigest()[:32]


def _is_ours(session_key: str) -> bool:
    return constant_time_compare(session_key[32:], _proof(session_key[:32]))


def _hashed(session_key: str) -> str:
    return hashlib.sha256(session_key.encode()).hexdigest()
