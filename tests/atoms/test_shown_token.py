"""An installer token is shown again for ten minutes to the session that made it, and to nobody else and nowhere else."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import Role
from atoms import actions as atoms
from atoms.models import Atom, InstallerToken
from kmsportal.templatetags.portal import absolute
from tests.atomapi.test_enrol import enrolled_with
from tests.conftest import PASSWORD, HostedVault, Stage, client_of

pytestmark = pytest.mark.django_db(transaction=True)
COOKIE = django_settings.INSTALLER_TOKEN_COOKIE_NAME


@pytest.fixture(autouse=True)
def some_wheel(tmp_path: Path, settings: Any) -> None:
    """The page shows a token beside the lines that use it, once there is a wheel."""
    (tmp_path / "kmsportal_runtime-0.0.0-py3-none-any.whl").write_bytes(b"stands for the wheel")
    settings.RUNTIME_WHEELS = tmp_path


def url_of(stage: Stage, atom: Atom | None = None) -> str:
    return reverse("atoms:atom_install", args=[stage.account.code, (atom or stage.atom).pk])


def token_on(client: Client, url: str) -> str:
    """What the page at this address shows, "" when none."""
    answer = client.get(url)
    assert answer.status_code == 200
    return str(answer.context["token"] if 'id="installer-token"' in answer.content.decode() else "")


def made(stage: Stage) -> tuple[Client, str]:
    """A client that has just made a token for the stage's first Atom, and the token."""
    client = client_of(stage.alice)
    answer = client.post(url_of(stage), {"minutes": 60})
    assert (answer.status_code, answer.headers["Location"]) == (302, url_of(stage))
    token = token_on(client, url_of(stage))
    assert token.startswith("atom-")
    return client, token


def test_a_token_survives_a_reload_and_is_not_made_anew(stage: Stage) -> None:
    client, token = made(stage)
    assert [token_on(client, url_of(stage)) for _ in range(3)] == [token] * 3
    assert InstallerToken.objects.count() == 1


def test_so_does_the_one_that_a_new_atom_comes_with(stage: Stage) -> None:
    client = client_of(stage.alice)
    form = {"name": "Fresh", "type": "CLOUD", "minutes": 30}
    answer = client.post(reverse("atoms:atom_create", args=[stage.account.code]), form)
    url = url_of(stage, stage.account.atoms.get(name="Fresh"))
    assert (answer.status_code, answer.headers["Location"]) == (302, url)
    token = token_on(client, url)
    assert token.startswith("cloud-")
    assert token_on(client, url) == token


def test_so_does_one_that_was_made_after_proving_again_who_one_is(stage: Stage) -> None:
    client = client_of(stage.alice)
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=True):
        asked = client.post(url_of(stage), {"minutes": 60}).headers["Location"]
        assert asked.startswith("/auth/reauthenticate/")
        assert client.post(asked, {"password": PASSWORD}).headers["Location"] == url_of(stage)
        token = token_on(client, url_of(stage))
        assert token.startswith("atom-")
        assert token_on(client, url_of(stage)) == token


def test_it_lies_sealed_in_a_cookie_of_this_one_page(stage: Stage, settings: Any) -> None:
    client, token = made(stage)
    cookie = client.cookies[COOKIE]
    assert token not in cookie.value
    found = {name: cookie[name] for name in ("httponly", "samesite", "path", "max-age", "secure")}
    assert found == {"httponly": True, "samesite": "Strict", "path": url_of(stage), "max-age": 600, "secure": ""}
    settings.SESSION_COOKIE_SECURE = True
    assert client.post(url_of(stage), {"minutes": 60}).cookies[COOKIE]["secure"] is True


def test_neither_database_nor_address_nor_log_has_it(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    _, token = made(stage)
    held = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')  # noqa: S608 (the database's own tables)
            held.append(
                repr(
                    [
                        bytes(value) if isinstance(value, memoryview) else value
                        for row in cursor.fetchall()
                        for value in row
                    ]
                )
            )
    assert len(held) > len(apps.get_models()) // 2
    assert token not in "".join(held) + caplog.text
    assert token.partition("-")[2] not in "".join(held) + caplog.text


def test_no_page_with_a_token_is_stored_by_a_browser(stage: Stage) -> None:
    client, _ = made(stage)
    assert "no-store" in client.get(url_of(stage)).headers["Cache-Control"]


def test_another_session_is_not_shown_it_even_with_the_cookie(stage: Stage) -> None:
    client, _ = made(stage)
    again = client_of(stage.alice)
    assert token_on(again, url_of(stage)) == ""
    again.cookies[COOKIE] = client.cookies[COOKIE].value
    assert token_on(again, url_of(stage)) == ""


def test_signing_out_ends_the_showing(stage: Stage) -> None:
    client, _ = made(stage)
    kept = client.cookies[COOKIE].value
    client.logout()
    client.post("/auth/login/", {"login": stage.alice.email, "password": PASSWORD})
    client.cookies[COOKIE] = kept
    assert token_on(client, url_of(stage)) == ""


def test_a_cookie_is_of_one_token_only(stage: Stage) -> None:
    client, _ = made(stage)
    kept = client.cookies[COOKIE].value
    atoms.create_installer_token(stage.second, minutes=60, actor=stage.alice)
    client.cookies[COOKIE] = kept
    assert token_on(client, url_of(stage, stage.second)) == ""


@pytest.mark.parametrize("value", ["x", "é", "AAAA", "A" * 80, ""])
def test_what_is_no_cookie_of_ours_shows_nothing(stage: Stage, value: str) -> None:
    client, _ = made(stage)
    client.cookies[COOKIE] = value
    assert token_on(client, url_of(stage)) == ""


def test_after_ten_minutes_it_is_not_shown_any_more(stage: Stage) -> None:
    client, token = made(stage)
    now = timezone.now()
    with time_machine.travel(now + timedelta(minutes=9), tick=True):
        assert token_on(client, url_of(stage)) == token
    with time_machine.travel(now + timedelta(minutes=10, seconds=1), tick=True):
        client.cookies[COOKIE]["max-age"] = 3600  # a browser that does not forget
        record = client.session
        record["account_authentication_methods"] = [{"method": "password", "at": timezone.now().timestamp()}]
        record.save()
        assert token_on(client, url_of(stage)) == ""


def test_a_withdrawn_token_is_not_shown_any_more(stage: Stage) -> None:
    client, _ = made(stage)
    atoms.withdraw_installer_token(InstallerToken.objects.get(), actor=stage.alice)
    assert token_on(client, url_of(stage)) == ""


def test_an_open_token_can_be_withdrawn_from_any_session(stage: Stage) -> None:
    client, token = made(stage)
    again = client_of(stage.alice)
    page = reverse("atoms:atom_detail", args=[stage.account.code, stage.atom.pk])
    withdraw = reverse("atoms:token_withdraw", args=[stage.account.code, stage.atom.pk])
    until = absolute(InstallerToken.objects.get().expires_at)
    assert f"Open: one machine may enrol with it until {until}" in again.get(page).content.decode()
    assert f'action="{withdraw}"' in client.get(url_of(stage)).content.decode()
    assert f'action="{withdraw}"' in again.get(url_of(stage)).content.decode()
    assert "is withdrawn: no machine enrols" in again.post(withdraw, follow=True).content.decode()
    assert InstallerToken.objects.get().withdrawn_at is not None
    assert token_on(client, url_of(stage)) == ""
    assert "Open: one machine" not in again.get(page).content.decode()
    assert "withdrawn" in stage.account.audit_entries.filter(type="as.installer")[0].message
    assert "No installer token was open any more" in again.post(withdraw, follow=True).content.decode()


def test_whoever_may_make_no_token_withdraws_none(stage: Stage) -> None:
    made(stage)
    accounts.add_member(stage.account, stage.cast.bob, [Role.objects.get(name="Production Support")], actor=stage.alice)
    withdraw = reverse("atoms:token_withdraw", args=[stage.account.code, stage.atom.pk])
    assert stage.cast.client("bob").post(withdraw).status_code == 403
    assert InstallerToken.objects.get().is_open


def test_a_spent_token_is_not_shown_any_more_and_leaves_the_browser(stage: Stage, hosted_vault: HostedVault) -> None:
    client, token = made(stage)
    enrolled_with(token, hosted_vault)
    assert InstallerToken.objects.get().spent_at is not None
    answer = client.get(url_of(stage))
    assert token not in answer.content.decode()
    assert answer.cookies[COOKIE].value == ""
    assert answer.cookies[COOKIE]["max-age"] == 0
    assert answer.cookies[COOKIE]["path"] == url_of(stage)


def test_an_open_page_takes_a_spent_token_off(stage: Stage, hosted_vault: HostedVault) -> None:
    client, token = made(stage)
    poll = reverse("atoms:atom_nodes", args=[stage.account.code, stage.atom.pk])
    row = InstallerToken.objects.get()
    assert f"{poll}?token={row.pk}" in client.get(url_of(stage)).content.decode()
    watching = client.get(f"{poll}?token={row.pk}", headers={"hx-request": "true"}).content.decode()
    assert f"{poll}?token={row.pk}" in watching
    assert 'id="token"' not in watching
    enrolled_with(token, hosted_vault)
    told = client.get(f"{poll}?token={row.pk}", headers={"hx-request": "true"}).content.decode()
    assert '<section class="card" id="token"' in told
    assert "it is spent, and not shown any more" in told
    assert "?token=" not in told
    assert 'id="token"' not in client.get(poll, headers={"hx-request": "true"}).content.decode()
