"""What people change about their own signing in is in the audit log of each of their accounts."""

import re

import pytest
from django.core import mail
from django.test import Client

from accounts import actions as accounts
from accounts import audit
from accounts.models import AuditEntry, Role
from accounts.privileges import ADMINISTRATOR
from tests.conftest import PASSWORD, Cast
from tests.kmsportal.test_signing_in import activate

pytestmark = pytest.mark.django_db(transaction=True)
NEW = "another correct horse battery"


@pytest.fixture
def everywhere(cast: Cast) -> Cast:
    """Alice is a member of both accounts."""
    accounts.add_member(cast.other, cast.alice, [Role.objects.get(pk=ADMINISTRATOR)], actor="tests")
    return cast


def told(cast: Cast) -> list[str]:
    """What was told since, the same in both accounts; the chains hold."""
    found = [
        [
            entry.message.removeprefix(f"{cast.alice.email} ")
            for entry in AuditEntry.objects.filter(account=account, actor_id=cast.alice.pk, type="user").order_by("seq")
        ]
        for account in (cast.account, cast.other)
    ]
    assert found[0] == found[1]
    assert audit.first_broken(cast.account) is audit.first_broken(cast.other) is None
    return found[0]


def test_a_changed_password_is_told(everywhere: Cast) -> None:
    form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    assert everywhere.client("alice").post("/auth/password/change/", form).status_code == 302
    assert told(everywhere) == ["changed their password"]


def test_a_password_chosen_by_a_link_is_told(everywhere: Cast) -> None:
    browser = Client()
    browser.post("/auth/password/reset/", {"email": everywhere.alice.email})
    assert told(everywhere) == []
    link = re.search(r"http://testserver(\S+)", str(mail.outbox[-1].body))
    assert link is not None
    page = browser.get(link[1], follow=True)
    browser.post(page.request["PATH_INFO"], {"password1": NEW, "password2": NEW})
    assert told(everywhere) == ["chose a new password by a link sent by mail"]


def test_second_factors_are_told(everywhere: Cast) -> None:
    client = everywhere.client("alice")
    activate(client)
    assert "added an authenticator app" in told(everywhere)
    client.post("/auth/2fa/recovery-codes/generate/")
    assert told(everywhere)[-1] == "made recovery codes anew"
    client.post("/auth/2fa/totp/deactivate/")
    assert "removed an authenticator app" in told(everywhere)


def test_nobody_changes_an_address_of_their_own(everywhere: Cast) -> None:
    client = everywhere.client("alice")
    for answer in (
        client.get("/auth/email/"),
        client.post("/auth/email/", {"email": "x@example.com", "action_add": ""}),
    ):
        assert answer.status_code == 404
