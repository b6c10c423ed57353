"""I2 and I3: ciphertext only in the database, wrapped data keys only in the vault, and each environment for its own."""

import base64
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from extensions.models import ExtensionValue
from kmscore.vaultclient.answers import VaultRefused
from tests.conftest import HostedVault
from tests.kmsruntime.conftest import Enrolled
from tests.kmsruntime.container import Container, save
from vaults.models import DataKey

pytestmark = pytest.mark.django_db(transaction=True)


def database_bytes() -> bytes:
    """The database as an attacker would carry it away, write-ahead log included."""
    if connection.vendor != "sqlite":
        pytest.fail("read the tables of a PostgreSQL server with pg_dump instead")
    name = Path(settings.DATABASES["default"]["NAME"])
    return b"".join(path.read_bytes() for path in name.parent.glob(name.name + "*"))


def test_the_database_has_no_wrapped_key_and_the_vault_no_ciphertext(
    enrolled: Container, hosted_vault: HostedVault
) -> None:
    save(enrolled.stage, password="canary-of-two-stores")
    enrolled.sync()
    dump = database_bytes()
    assert b"canary-of-two-stores" not in dump
    assert b"vault:v" not in dump
    value = ExtensionValue.objects.get(form="sealed")
    document = hosted_vault.root.read_document("datakeys", f"{enrolled.stage.production.pk}/0")
    assert set(document) == {str(pk) for pk in DataKey.objects.values_list("pk", flat=True)}
    sealed = bytes(value.sealed or b"")
    kept = "".join(document.values())
    for text in (base64.b64encode(sealed).decode(), sealed.hex(), sealed[13:29].hex()):
        assert text not in kept
    wrapped = next(iter(document.values()))
    data_key = hosted_vault.root.unwrap_data_keys("intransit", str(enrolled.stage.production.pk), [wrapped])[0]
    assert data_key not in dump
    assert base64.b64encode(data_key) not in dump
    assert wrapped.split(":")[2].encode() not in dump


def test_a_runtime_of_another_environment_is_refused_by_the_vault(
    enrolled: Container, another: Enrolled, hosted_vault: HostedVault
) -> None:
    from atoms import actions as atoms
    from kmscore.vaultclient.client import Vault
    from kmsruntime.disk import credentials

    stage = enrolled.stage
    save(stage, password="for production only")
    atoms.attach(stage.second, stage.test, actor=stage.alice)
    other = another("other", stage.second)
    half = credentials.read_environment(other.home)
    vault = Vault(hosted_vault.address)
    own = vault.with_token(vault.login("environments", half.login.role_id, half.login.secret_id).token)
    wrapped = next(iter(hosted_vault.root.read_document("datakeys", f"{stage.production.pk}/0").values()))
    with pytest.raises(VaultRefused) as document:
        own.read_document("datakeys", f"{stage.production.pk}/0")
    with pytest.raises(VaultRefused) as key:
        own.unwrap_data_keys("intransit", str(stage.production.pk), [wrapped])
    assert (document.value.status, key.value.status) == (403, 403)
