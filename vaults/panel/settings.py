"""Changes at an Atom's Key Management Service settings: Bring Your Own Vault, the properties file, wrapped."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.db import transaction
from django.utils import timezone

from accounts.models import AuditEntry, User
from atoms.models import Atom
from kmscore.byov.customer import FILE_PATH, SETTINGS_PATH, CustomerVault
from kmscore.refused import Refused
from kmscore.sealed.kms_settings import FileRef, KmsDocument
from vaults import kms_audit
from vaults.hosted import sealing
from vaults.models import KmsSettings, PropertiesFile


@dataclass(frozen=True, slots=True)
class PropertiesUpload:
    """A properties file that was read without an error: its name, its settings, and the facts that may be shown."""

    name: str
    vault: CustomerVault
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SettingsSaved:
    """The revision now, and whether anything was written."""

    revision: int
    changed: bool


class SettingsInvalid(Refused):
    """These settings cannot be; `field` is the form's field it belongs to, the sentence says why."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__("settings_invalid", sentence)
        self.field = field


class StaleSettings(Refused):
    """Somebody changed them meanwhile; nothing was written. `edits`: audit entries of those changes, newest first."""

    def __init__(self, edits: list[AuditEntry]) -> None:
        super().__init__("settings_stale", "The settings were changed by somebody else.")
        self.edits = edits


# What to load with an Atom so that `settings_of` and `file_of` ask nothing more.
SETTINGS = (
    "kms_settings__changed_by",
    "kms_settings__data_key",
    "properties_file__data_key",
    "properties_file__uploaded_by",
)


def settings_of(atom: Atom) -> KmsSettings:
    """An Atom's KMS settings, as loaded with it; hosted until somebody chose otherwise (not saved)."""
    return getattr(atom, "kms_settings", None) or KmsSettings(atom=atom)


def file_of(atom: Atom) -> PropertiesFile | None:
    """The stored properties file, as loaded with the Atom."""
    return getattr(atom, "properties_file", None)


def with_settings(atom: Atom) -> Atom:
    """The Atom as it is now, with its settings: one query. Raises RowTampered."""
    return Atom.objects.select_related("account__kms", *SETTINGS).get(pk=atom.pk).verified(pk=atom.pk)


def refuse_forged(atom: Atom) -> Atom:
    """For pages: what stands beside the sealed settings is the portal's own. Raises RowTampered."""
    for row in (getattr(atom, "kms_settings", None), file_of(atom)):
        if row is not None:
            row.verified(atom_id=atom.pk)
    return atom


def refuse_impossible(atom: Atom, *, mode: str, wrapped: bool, has_file: bool) -> None:
    """The rules of the seed. Raises SettingsInvalid."""
    if mode == KmsSettings.Mode.BYOV and atom.type == Atom.Type.CLOUD:
        raise SettingsInvalid("byov", "Bring Your Own Vault is not available for Clouds.")
    if wrapped and mode != KmsSettings.Mode.BYOV:
        raise SettingsInvalid("wrapped", "A wrapped encryption key needs Bring Your Own Vault.")
    if mode == KmsSettings.Mode.BYOV and not has_file:
        raise SettingsInvalid("file", "Choose the properties file of your vault.")


def save_kms_settings(
    atom: Atom,
    *,
    mode: str,
    wrapped: bool,
    file: PropertiesUpload | None,
    expected_revision: int,
    actor: User,
) -> SettingsSaved:
    """Save all of it or nothing: sealed with one data key, vault first, database second (DESIGN.md §3).

    file None keeps the stored one, in hosted mode too, so that Bring Your Own Vault can be turned on again. Nothing changed
    is no call and no write; so is a second click, whose first has written the same already.
    Raises SettingsInvalid, StaleSettings, and what sealing.new_save_key raises.
    """
    atom = refuse_forged(with_settings(atom))
    before, stored = settings_of(atom), file_of(atom)
    if file is not None and mode != KmsSettings.Mode.BYOV:
        raise SettingsInvalid("file", "A properties file is stored with Bring Your Own Vault only.")
    refuse_impossible(atom, mode=mode, wrapped=wrapped, has_file=bool(file or stored))
    if mode == KmsSettings.Mode.BYOV and file is None and stored is not None and stored.data_key.lost_at is not None:
        raise SettingsInvalid(
            "file", "The vault has lost the key of the stored properties file: choose the file again."
        )
    same = (before.mode, before.wrapped) == (mode, wrapped) and _is_stored(atom, file, stored)
    if same and not _has_lost_its_key(before, stored):
        second_click = before.revision == expected_revision + 1 and before.changed_by_id == actor.pk
        if before.revision == expected_revision or second_click:
            return SettingsSaved(before.revision, False)
    _check_revision(before, expected_revision)
    key = sealing.new_save_key(atom)
    with transaction.atomic():
        row = _locked(atom)
        _check_revision(row, expected_revision)
        row.data_key = key.record()
        row.revision += 1
        if file is not None:
            stored = _write_file(stored or PropertiesFile(atom=atom), file, row.revision, key, actor)
        reference = FileRef(stored.revision, str(stored.data_key_id)) if stored else None
        document = KmsDocument(row.revision, mode, wrapped, reference)
        row.mode, row.wrapped, row.changed_by = mode, wrapped, actor
        row.sealed = key.seal_settings(SETTINGS_PATH, row.revision, document.encode())
        row.save()
        _record(atom, before, row, file, actor)
    return SettingsSaved(row.revision, True)


def republish_settings(atom: Atom, *, above: int, actor: User | str) -> int:
    """Seal an Atom's settings anew under a revision higher than `above`, changing nothing of them: after a restore.

    Returns the revision. Raises RowTampered, and what sealing.new_save_key raises.
    """
    atom = refuse_forged(with_settings(atom))
    stored = file_of(atom)
    key = sealing.new_save_key(atom)
    with transaction.atomic():
        row = _locked(atom)
        row.data_key = key.record()
        row.revision = max(row.revision, above) + 1
        reference = FileRef(stored.revision, str(stored.data_key_id)) if stored else None
        document = KmsDocument(row.revision, row.mode, row.wrapped, reference)
        row.sealed = key.seal_settings(SETTINGS_PATH, row.revision, document.encode())
        row.save()
        message = f"Key Management Service of {atom.name}: sealed anew as revision {row.revision}"
        kms_audit.record(atom, "REPUBLISH", message, actor=actor, revision=row.revision)
    return row.revision


def edits_since(atom: Atom, revision: int) -> list[AuditEntry]:
    """Every change after a revision, newest first."""
    entries = AuditEntry.objects.filter(
        account=atom.account_id, type=kms_audit.TYPE, action="EDIT", subject_id=str(atom.pk)
    )
    return list(entries.filter(properties__revision__gt=revision).order_by("-seq"))


def _check_revision(row: KmsSettings, expected: int) -> None:
    if row.revision != expected:
        raise StaleSettings(edits_since(row.atom, expected))


def _locked(atom: Atom) -> KmsSettings:
    """The row, locked; made on the first change."""
    locked = KmsSettings.objects.select_for_update(no_key=True).filter(atom=atom).first()
    if locked is None:
        KmsSettings.objects.get_or_create(atom=atom)  # another first change may have made it meanwhile
        locked = KmsSettings.objects.select_for_update(no_key=True).get(atom=atom)
    locked.atom = atom
    return locked


def _write_file(
    row: PropertiesFile, file: PropertiesUpload, revision: int, key: sealing.SaveKey, actor: User
) -> PropertiesFile:
    row.name, row.revision, row.facts = file.name, revision, dict(file.facts)
    row.data_key_id = key.id
    row.sealed = key.seal_settings(FILE_PATH, revision, file.vault.encode())
    row.content_mac = content_mac(row.atom, file)
    row.uploaded_at, row.uploaded_by = timezone.now(), actor
    row.save()
    return row


def _has_lost_its_key(*rows: KmsSettings | PropertiesFile | None) -> bool:
    """Whether saving the same again is something: sealed with a key that the vault still has."""
    return any(row is not None and row.data_key is not None and row.data_key.lost_at is not None for row in rows)


def _is_stored(atom: Atom, file: PropertiesUpload | None, stored: PropertiesFile | None) -> bool:
    """Whether keeping the stored file is what is asked."""
    if file is None or stored is None:
        return file is None
    if stored.data_key.lost_at is not None:
        return False  # the same file, uploaded again because the vault has lost its key
    return hmac.compare_digest(bytes(stored.content_mac), content_mac(atom, file))


def content_mac(atom: Atom, file: PropertiesUpload) -> bytes:
    """Tells one file of an Atom from another, under the row key: nothing can be learned from it."""
    content = str(atom.pk).encode() + b"\0" + file.name.encode() + b"\0" + file.vault.encode()
    return hmac.digest(django_settings.ROW_KEY, b"properties file\0" + content, hashlib.sha256)


def _record(atom: Atom, before: KmsSettings, row: KmsSettings, file: PropertiesUpload | None, actor: User) -> None:
    changes = []
    if before.mode != row.mode:
        changes.append(f"Bring Your Own Vault {'on' if row.is_byov else 'off'}")
    if before.wrapped != row.wrapped:
        changes.append(f"Wrapped Encryption Key {'on' if row.wrapped else 'off'}")
    if file is not None:
        changes.append(f"properties file {file.name} uploaded")
    message = f"Key Management Service of {atom.name}: {', '.join(changes)}"
    facts = {"revision": row.revision, "mode": row.mode, "wrapped": row.wrapped, "changes": changes}
    kms_audit.record(atom, "EDIT", message, actor=actor, **facts)
