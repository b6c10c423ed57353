"""A renewal of the portal's own logins while people save: nobody notices."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.urls import reverse

from atoms.models import Environment
from tests.conftest import PASSWORD, HostedVault
from tests.http import Person
from tests.live import LivePortal
from tests.vaults.keys.test_rotation_live import Crowd
from vaults.hosted import layout
from vaults.hosted.credentials import HELD, Credentials, read_credentials, renew_credentials, write_credentials
from vaults.hosted.hvac_client import client_of
from vaults.hosted.sessions import drop_tokens

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
SAVERS, RENEWALS, SAVES = 3, 6, 40


@contextmanager
def logging_in_every_few_seconds(vault: HostedVault) -> Iterator[None]:
    """The vault gives web's identities tokens that live five seconds; less is not enough to use one on a busy machine. Afterwards
    everything is as it was, and `all` fits again."""
    try:
        for identity in HELD["web"]:
            vault.root.call("POST", f"auth/platform/role/{identity}", {"token_ttl": "5s"})
        yield
    finally:
        layout.install(client_of(vault.root))
        every = {}
        for name in HELD:
            every |= read_credentials(vault.credentials / name).identities
        write_credentials(vault.credentials / "all", Credentials(layout.LAYOUT_VERSION, every))
        drop_tokens()


def test_people_save_on_while_role_ids_and_secret_ids_are_renewed(
    portal: LivePortal, hosted_vault: HostedVault
) -> None:
    stage, crowd = portal.stage, Crowd()
    key = stage.field("password").pk
    path = reverse("extensions:environment_extensions", args=[stage.account.code, stage.production.pk])
    done: list[int] = []

    def save(person: Person) -> None:
        while True:
            revision = Environment.objects.values_list("extensions_revision", flat=True).get(pk=stage.production.pk)
            answer = person.post(path, {"expected_revision": str(revision), f"secret.{key}": f"value {len(done)}"})
            if answer.status_code != 409:
                break
        why = re.findall("Nothing was saved[^<]*", answer.text)
        assert answer.status_code == 302, f"a save was answered with {answer.status_code}: {why}"
        done.append(answer.status_code)

    directories = [hosted_vault.credentials / name for name in HELD]
    with logging_in_every_few_seconds(hosted_vault):
        portal.kill("web")  # its tokens were given before
        portal.start("web")
        portal.wait_until_up()
        for _ in range(SAVERS):
            person = Person(portal.url, stage.alice.email, PASSWORD)
            crowd.add(lambda _number, person=person: save(person), 0.02)  # type: ignore[misc]
        try:
            for renewal in range(1, RENEWALS + 1):
                deadline = time.monotonic() + 60
                while len(done) < renewal * SAVES and not crowd.failures:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                renew_credentials(client_of(hosted_vault.root), directories)
        finally:
            crowd.end()
    assert crowd.failures == []
    portal.kill("web")
    portal.start("web")
    portal.wait_until_up()
