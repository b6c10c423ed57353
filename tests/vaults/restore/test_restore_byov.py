"""After a restore, containers that bring their own vault: what they hold stays, and one upload heals a lost file."""

from io import StringIO

import pytest
from django.core.management import call_command

from kmsruntime.errors import RuntimeProblem
from tests.conftest import HostedVault
from tests.kmsruntime.byov_machine import HELD, Byov
from tests.kmsruntime.conftest import *  # noqa: F403 (its fixtures)
from tests.vaults.restore.test_after_restore import take_out
from vaults.panel.settings import file_of, settings_of, with_settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def after_restore(hosted_vault: HostedVault, only: str) -> str:
    said = StringIO()
    call_command("after_restore", credentials=hosted_vault.credentials, restore="it", only=only, stdout=said)
    return said.getvalue()


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_a_lost_properties_file_is_uploaded_again_and_the_container_goes_on(
    held: Byov, hosted_vault: HostedVault, wrapped: bool
) -> None:
    file = held.file()
    held.turn_on(file=file, wrapped=wrapped)
    held.container.sync()
    stored, settings = file_of(with_settings(held.atom)), settings_of(with_settings(held.atom))
    assert stored is not None
    assert settings.data_key == stored.data_key
    take_out(hosted_vault, stored.data_key)  # both are of after the vault's backup
    assert "upload the properties file of Orders Atom again" in after_restore(hosted_vault, "vault")
    with pytest.raises(RuntimeProblem):
        held.container.sync()
    revision = held.turn_on(file=file, wrapped=wrapped)
    held.container.sync()
    assert held.get() == HELD
    assert held.is_sealed_for(revision, mode="byov", wrapped=wrapped, values=1)


def test_an_older_database_that_knows_nothing_of_the_customers_vault_brings_it_back_to_the_hosted_one(
    held: Byov, hosted_vault: HostedVault
) -> None:
    held.turn_on()
    held.container.sync()
    held.atom.kms_settings.delete()  # as it was on the day of the backup
    held.atom.properties_file.delete()
    after_restore(hosted_vault, "database")
    held.container.sync()
    assert held.get() == HELD
    assert held.is_sealed_for(settings_of(with_settings(held.atom)).revision, mode="hosted", values=1)
