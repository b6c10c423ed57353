"""Saving an Atom's KMS settings: what is sealed opens for its Atom alone, and every refusal leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import AuditEntry
from atoms import actions as atoms
from kmscore.byov.customer import FILE_PATH, SETTINGS_PATH, CustomerVault, decode_customer_vault
from kmscore.sealed.envelope import Place, SealBroken, open_sealed
from kmscore.sealed.kms_settings import FileRef, decode_kms_document
from kmscore.vaultclient.answers import VaultUnavailable
from operations.work import sweep
from tests.conftest import HostedVault, Stage
from vaults.models import DataKey, KmsSettings
from vaults.panel.settings import (
    PropertiesUpload,
    SettingsInvalid,
    SettingsSaved,
    StaleSettings,
    file_of,
    save_kms_settings,
    settings_of,
    with_settings,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
CANARY = "hvs.canary-token-of-the-customer"
VAULT = CustomerVault("https://vault.example.com:8200", CANARY, namespace="admin")


def upload(vault: CustomerVault = VAULT, name: str = "application.yaml") -> PropertiesUpload:
    return PropertiesUpload(name, vault, {"uri": vault.uri})


def save(stage: Stage, **changes: Any) -> SettingsSaved:
    asked = {
        "mode": "byov",
        "wrapped": False,
        "file": None,
        "expected_revision": settings_of(with_settings(stage.atom)).revision,
    }
    return save_kms_settings(stage.atom, **(asked | changes), actor=stage.alice)


def opened(stage: Stage, vault: HostedVault, row: Any, path: tuple[str, ...]) -> bytes:
    """Opened as the Atom would, with the vault's root token in place of its login."""
    document = vault.root.read_document("atomkeys", f"{stage.atom.pk}/{row.data_key.document}")
    key = vault.root.unwrap_data_keys("atomtransit", str(stage.atom.pk), [document[str(row.data_key_id)]])[0]
    account, atom = str(stage.account.pk), str(stage.atom.pk)
    return open_sealed(
        key, bytes(row.sealed), Place(account, atom, "kms-file", path, row.revision, str(row.data_key_id))
    )


def test_file_and_settings_are_sealed_for_the_atom_and_name_each_other(stage: Stage, hosted_vault: HostedVault) -> None:
    assert save(stage, file=upload(), wrapped=True) == SettingsSaved(2, True)
    row, stored = settings_of(with_settings(stage.atom)), file_of(with_settings(stage.atom))
    assert stored is not None
    assert decode_customer_vault(opened(stage, hosted_vault, stored, FILE_PATH)) == VAULT
    document = decode_kms_document(opened(stage, hosted_vault, row, SETTINGS_PATH))
    assert (document.mode, document.wrapped, document.revision) == ("byov", True, 2)
    assert document.file == FileRef(2, str(stored.data_key_id))
    with pytest.raises(SealBroken):
        opened(stage, hosted_vault, stored, SETTINGS_PATH)


def test_a_later_change_keeps_the_file_and_seals_the_settings_anew(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, file=upload())
    first = file_of(with_settings(stage.atom))
    assert first is not None
    save(stage, wrapped=True)
    save(stage, mode="hosted")
    stored, row = file_of(with_settings(stage.atom)), settings_of(with_settings(stage.atom))
    assert stored is not None
    assert (stored.revision, stored.data_key_id, row.revision) == (2, first.data_key_id, 4)
    document = decode_kms_document(opened(stage, hosted_vault, row, SETTINGS_PATH))
    assert (document.mode, document.file) == ("hosted", FileRef(2, str(first.data_key_id)))


def test_the_token_is_nowhere_in_the_rows(stage: Stage) -> None:
    save(stage, file=upload())
    stored = file_of(with_settings(stage.atom))
    assert stored is not None
    rows = [vars(stored), vars(settings_of(with_settings(stage.atom))), *AuditEntry.objects.values()]
    assert CANARY not in repr(rows)
    assert CANARY.encode() not in bytes(stored.sealed)


def test_nothing_changed_is_no_call_and_no_write(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    save(stage, file=upload())
    before = DataKey.objects.count(), AuditEntry.objects.count()
    assert save(stage) == SettingsSaved(2, False)
    assert save(stage, file=upload()) == SettingsSaved(2, False)
    assert (DataKey.objects.count(), AuditEntry.objects.count()) == before
    assert save(stage, file=upload(name="renamed.yaml")).changed


def test_a_second_click_saves_once_and_a_stale_change_is_refused(stage: Stage) -> None:
    assert save(stage, file=upload(), expected_revision=1).revision == 2
    assert save(stage, file=upload(), expected_revision=1) == SettingsSaved(2, False)
    with pytest.raises(StaleSettings) as caught:
        save(stage, wrapped=True, expected_revision=1)
    assert [entry.properties["revision"] for entry in caught.value.edits] == [2]
    assert not settings_of(with_settings(stage.atom)).wrapped


def test_the_server_refuses_what_the_page_disables(stage: Stage) -> None:
    cloud = atoms.create_atom(stage.account, name="Cloud", type="CLOUD", environment=None, actor=stage.alice)
    sweep()
    with pytest.raises(SettingsInvalid, match="not available for Clouds"):
        save_kms_settings(cloud, mode="byov", wrapped=False, file=upload(), expected_revision=1, actor=stage.alice)
    with pytest.raises(SettingsInvalid, match="needs Bring Your Own Vault"):
        save(stage, mode="hosted", wrapped=True)
    with pytest.raises(SettingsInvalid, match="Choose the properties file"):
        save(stage)
    assert not KmsSettings.objects.exists()


def test_with_the_vault_down_nothing_is_written(stage: Stage, settings: Any) -> None:
    from vaults.hosted.sessions import drop_tokens

    settings.VAULT_ADDR = "http://127.0.0.1:1"
    drop_tokens()
    with pytest.raises(VaultUnavailable):
        save(stage, file=upload())
    assert (KmsSettings.objects.count(), file_of(with_settings(stage.atom))) == (0, None)


def test_an_audit_entry_says_what_changed(stage: Stage) -> None:
    save(stage, file=upload(), wrapped=True)
    entry = AuditEntry.objects.filter(type="as.atom.kms", action="EDIT").latest("seq")
    assert entry.properties["changes"] == [
        "Bring Your Own Vault on",
        "Wrapped Encryption Key on",
        "properties file application.yaml uploaded",
    ]
