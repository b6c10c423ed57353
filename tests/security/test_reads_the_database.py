"""An attacker who reads the live database, and has nothing else: a replica, a dump, a backup.

On commit e0b1f14 the same steps won: the key of a session, as it stood in its row, was a cookie that signed in as its owner;
the secret of a second factor, as it stood in its row, gave the codes.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.conf import settings as at_start
from django.db import connection

from kmsportal.backups.database import back_up
from tests.live import LivePortal
from tests.security.visitor import Visitor

pytestmark = pytest.mark.django_db(transaction=True)


def everything() -> Iterator[tuple[str, str, str]]:
    """(table, column, text) of all that stands in the database, and of what stands within JSON there."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')  # noqa: S608 (names of tables)
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for name, value in zip(names, row, strict=True):
                    yield from ((table, name, text) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        try:
            found = json.loads(value)
        except ValueError:
            return
        yield from _texts(found) if not isinstance(found, str) else ()
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def session_cookie(visitor: Visitor) -> Any:
    return next(cookie for cookie in visitor.cookies if cookie.name.startswith("session-"))


def test_nothing_in_the_database_is_a_session(portal: LivePortal, visitor: Callable[..., Visitor]) -> None:
    alice = visitor("alice")
    cookie = session_cookie(alice)
    page = f"/accounts/{portal.stage.account.code}/audit/"
    assert alice.get(page).status == 200
    assert cookie.value not in {text for _, _, text in everything()}
    tried = 0
    for _, _, text in set(everything()):
        if 8 <= len(text) <= 64 and text.isascii() and text.isalnum():
            thief = visitor()
            thief.take_cookie(cookie.name, text)
            assert thief.get(page).status == 302, text
            tried += 1
    assert tried, "the session's row has such a text too"


def test_no_second_factor_stands_there_to_be_used(portal: LivePortal) -> None:
    alice = portal.stage.cast.alice
    secret = generate_totp_secret()
    TOTP.activate(alice, secret)
    codes = RecoveryCodes.activate(alice).get_unused_codes()
    found = {text for table, _, text in everything() if "authenticator" in table}
    assert not found & {secret, *codes}
    seed = Authenticator.objects.get(user=alice, type="recovery_codes").data["seed"]
    assert seed.startswith("aes256-gcm:")


def test_a_backup_has_no_session(portal: LivePortal, visitor: Callable[..., Visitor], tmp_path: Path) -> None:
    visitor("alice")
    name = back_up(connection.settings_dict, tmp_path)
    with sqlite3.connect(tmp_path / name) as copy:
        assert copy.execute("SELECT count(*) FROM accounts_user").fetchone() != (0,)
        assert copy.execute("SELECT count(*) FROM accounts_session").fetchone() == (0,)
    assert at_start.SESSION_ENGINE == "accounts.sessions"
