"""After a restore, containers that bring their own vault: what they hold stays, and one upload heals a lost file."""

from io import StringIO

import pytest
from django.core.management import call_command

from kmsruntime.errors import RuntimeProblem
from tests.conftest import HostedVault
from tests.customer import CustomersVault
from tests.kmsruntime.byov_machine import Byov
from tests.kmsruntime.conftest import *  # noqa: F403 (its fixtures)
from tests.kmsruntime.container import Container, save
from tests.vaults.restore.test_after_restore import take_out
from vaults.panel.settings import file_of, settings_of, with_settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
HELD = "pa55word-canary"


@pytest.fixture
def byov(enrolled: Container, customers_vault: CustomersVault, monkeypatch: pytest.MonkeyPatch) -> Byov:
    """A container that has a value, sealed under the customer's key."""
    monkeypatch.setenv("VAULT_CACERT", str(customers_vault.ca))
    save(enrolled.stage, password=HELD)
    enrolled.sync()
    return Byov(enrolled, customers_vault, enrolled.stage.atom)


def after_restore(hosted_vault: HostedVault, only: str) -> str:
    said = StringIO()
    call_command("after_restore", credentials=hosted_vault.credentials, restore="it", only=only, stdout=said)
    return said.getvalue()


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_a_lost_properties_file_is_uploaded_again_and_the_container_goes_on(
    byov: Byov, hosted_vault: HostedVault, wrapped: bool
) -> None:
    file = byov.file()
    byov.turn_on(file=file, wrapped=wrapped)
    byov.container.sync()
    stored, settings = file_of(with_settings(byov.atom)), settings_of(with_settings(byov.atom))
    assert stored is not None
    assert settings.data_key == stored.data_key
    take_out(hosted_vault, stored.data_key)  # both are of after the vault's backup
    assert "upload the properties file of Orders Atom again" in after_restore(hosted_vault, "vault")
    with pytest.raises(RuntimeProblem):
        byov.container.sync()
    revision = byov.turn_on(file=file, wrapped=wrapped)
    byov.container.sync()
    assert byov.get() == HELD
    assert byov.is_sealed_for(revision, mode="byov", wrapped=wrapped, values=1)


def test_an_older_database_that_knows_nothing_of_the_customers_vault_brings_it_back_to_the_hosted_one(
    byov: Byov, hosted_vault: HostedVault
) -> None:
    byov.turn_on()
    byov.container.sync()
    byov.atom.kms_settings.delete()  # as it was on the day of the backup
    byov.atom.properties_file.delete()
    after_restore(hosted_vault, "database")
    byov.container.sync()
    assert byov.get() == HELD
    assert byov.is_sealed_for(settings_of(with_settings(byov.atom)).revision, mode="hosted", values=1)
