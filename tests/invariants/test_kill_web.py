"""I7: "saved" is shown only after it is durable in both stores, wherever the web process dies."""

import contextlib

import pytest
import requests
from django.db import connection
from django.urls import reverse

from accounts import audit
from atoms.models import Environment
from extensions.models import EnvironmentManifest, ExtensionValue
from kmscore.sealed.envelope import open_sealed
from kmscore.sealed.manifest import Manifest, decode, manifest_place, value_place
from tests.conftest import PASSWORD, HostedVault, Stage
from tests.http import Person
from tests.live import LivePortal
from vaults.models import DataKey

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def data_key(vault: HostedVault, row: DataKey) -> bytes:
    """Unwrapped with the vault's root token: the test's way to look, nobody else's."""
    document = vault.root.read_document(row.recipient.mounts.documents, f"{row.recipient_id}/{row.document}")
    return vault.root.unwrap_data_keys(row.recipient.mounts.transit, str(row.recipient_id), [document[str(row.pk)]])[0]


def opened(stage: Stage, vault: HostedVault) -> tuple[int, dict[str, str]]:
    """Everything the environment holds, opened, checked against its manifest: (revision, {field id: value})."""
    account, environment = str(stage.account.pk), str(stage.production.pk)
    revision = Environment.objects.get(pk=stage.production.pk).extensions_revision
    values = {}
    for row in ExtensionValue.objects.filter(environment=stage.production, form="sealed").select_related(
        "data_key", "field"
    ):
        assert row.data_key is not None
        where = value_place(account, environment, row.field.path, row.revision, str(row.data_key_id))
        values[row.field.key] = open_sealed(data_key(vault, row.data_key), bytes(row.sealed or b""), where).decode()
    if revision:
        listing = opened_manifest(stage, vault)
        assert {entry.path[-1] for entry in listing.entries if entry.form == "sealed"} == set(values)
        assert listing.revision == revision
    return revision, values


def opened_manifest(stage: Stage, vault: HostedVault, environment: Environment | None = None) -> Manifest:
    """The manifest of the environment's present revision; Production's, unless another is meant."""
    environment = environment or stage.production
    row = EnvironmentManifest.objects.select_related("data_key").get(environment=environment)
    revision = Environment.objects.get(pk=environment.pk).extensions_revision
    where = manifest_place(str(stage.account.pk), str(environment.pk), revision, str(row.data_key_id))
    return decode(open_sealed(data_key(vault, row.data_key), bytes(row.sealed), where))


def test_a_save_survives_the_death_of_web_at_every_step(portal: LivePortal, hosted_vault: HostedVault) -> None:
    stage = portal.stage
    portal.kill("web")
    portal.start("web", application="tests.dying_wsgi:application")
    portal.wait_until_up()
    alice = Person(portal.url, stage.alice.email, PASSWORD)
    path = reverse("extensions:environment_extensions", args=[stage.account.code, stage.production.pk])
    secret = f"secret.{stage.field('password').pk}"
    number, revision, died = 0, 0, 0
    while True:
        number += 1
        typed = f"value typed in attempt {number}"
        answer = None
        with contextlib.suppress(requests.RequestException):
            answer = alice.post(path, {"expected_revision": str(revision), secret: typed}, **{"X-Die-At": str(number)})
        connection.close()
        before, (revision, values) = revision, opened(stage, hosted_vault)
        assert audit.first_broken(stage.account) is None
        if revision > before:
            assert values["password"] == typed
        if answer is not None:
            assert answer.status_code == 302
            assert revision == before + 1, "shown as saved, and it is not"
            break
        died += 1
        portal.wait_until_up()
    assert died >= 20, "there are more places to die at than these"
    portal.kill("web")
    portal.start("web")
    portal.wait_until_up()
