"""After a backup was put back: database and vault are of different days, and are made to agree again.

Everything here may be done twice. What the vault has no more is marked, never forgotten: nothing becomes silently unreadable.
"""

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.db.models import F, Max, Q, QuerySet

from accounts.models import Account, AuditEntry
from atoms.models import Atom
from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import chunks
from vaults import kms_audit
from vaults.hosted import calls, documents
from vaults.keys.losses import mark_lost, unmark
from vaults.models import ContainerReport, DataKey, KmsAccount, KmsSettings, PropertiesFile, Recipient
from vaults.panel.settings import republish_settings, settings_of

ACTOR = "operator"
JUMP = 1000  # how far revisions are raised: more than anybody saves between a backup and its use
IDS = 5000  # in one query


@dataclass(frozen=True, slots=True)
class Restore:
    """Which restore: its name, whether the database and whether the vault was put back, the backup's time and its own.

    jump: how far revisions go above the highest that is known of.
    """

    name: str
    database: bool
    vault: bool
    taken_at: datetime
    restored_at: datetime
    jump: int = JUMP


@dataclass(slots=True)
class Compared:
    """Data keys of an account: how many are missing in the vault, how many are there again, and whose recipients' they are."""

    lost: int = 0
    found: int = 0
    changed: set[uuid.UUID] = field(default_factory=set)


def done_before(account: Account, restore: Restore, action: str) -> set[str]:
    """Ids of what was done already after this restore: a run that was killed goes on where it was."""
    told = AuditEntry.objects.filter(account=account, action=action, properties__restore=restore.name)
    return set(told.values_list("subject_id", flat=True))


@transaction.atomic
def record_step(subject: kms_audit.Subject, restore: Restore, action: str, message: str, **facts: object) -> None:
    """The audit row of one step; `done_before` finds it by its subject."""
    kms_audit.record(subject, action, message, actor=ACTOR, restore=restore.name, **facts)


# -- recipients ---------------------------------------------------------------------------------------------------------


def provision_again(account: Account, restore: Restore) -> set[uuid.UUID]:
    """Keys and roles of every recipient that an older vault may lack; the newest versions of all. Returns who has no key.

    Of a disabled account the roles are deleted again. A vault that was not put back lacks nothing but on purpose (the KMS was
    disabled or shredded, an Atom deleted since): there nothing is made, so that nobody gets in again.
    """
    kms = KmsAccount.objects.get(account=account).verified()
    missing = set()
    for recipient in account.recipients.filter(shredded_at=None).order_by("pk"):
        if restore.vault and kms.state == KmsAccount.State.DISABLED:
            calls.delete_role(recipient.mounts.logins, recipient.pk)
        elif restore.vault:
            calls.provision(recipient.mounts, recipient.pk, recipient.verified().account_id)
        if not _take_versions(recipient):
            missing.add(recipient.pk)
    return missing


def _take_versions(recipient: Recipient) -> bool:
    try:
        versions = calls.key_versions(recipient)
    except VaultRefused as refusal:
        if refusal.status != 404:
            raise
        return False
    Recipient.objects.filter(pk=recipient.pk).update(in_transit_version=versions.latest, oldest_version=versions.oldest)
    return True


# -- data keys ----------------------------------------------------------------------------------------------------------


def compare_data_keys(account: Account) -> Compared:
    """Mark the data keys that the vault's documents have no more, and unmark those that are there again.

    One recipient at a time, ids only; no wrapped data key is kept.
    """
    result = Compared()
    for recipient in account.recipients.filter(shredded_at=None).order_by("pk"):
        kept = recipient.data_keys.filter(retired_at=None)
        rows = list(kept.values_list("pk", "document", "lost_because"))
        there = _ids(recipient, max((document for _, document, _ in rows), default=0))
        missing = [pk for pk, document, lost in rows if not lost and (document, str(pk)) not in there]
        again = [
            pk for pk, document, lost in rows if lost == DataKey.LostBecause.RESTORED and (document, str(pk)) in there
        ]
        result.lost += sum(mark_lost(part, DataKey.LostBecause.RESTORED) for part in _keys(missing))
        result.found += sum(unmark(part) for part in _keys(again))
        if missing or again:
            result.changed.add(recipient.pk)
    return result


def _ids(recipient: Recipient, last: int) -> set[tuple[int, str]]:
    return {(number, key) for number, entries in documents.read_all(recipient, last) for key in entries}


def _keys(ids: list[uuid.UUID]) -> Iterator[QuerySet[DataKey]]:
    return (DataKey.objects.filter(pk__in=part) for part in chunks(ids, IDS))


# -- KMS settings -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class RepublishedSettings:
    """Of an account: Atoms whose settings were sealed anew, and those whose properties file has to be uploaded again."""

    sealed: list[Atom] = field(default_factory=list)
    upload_again: list[Atom] = field(default_factory=list)


def publish_settings(account: Account, restore: Restore, without: Collection[uuid.UUID] = ()) -> RepublishedSettings:
    """Seal the KMS settings of each Atom anew, above every revision that a container may have met.

    After a restore of the database also of Atoms that have a container and no settings: it may have met some since.
    without: those that have no key in the vault.
    """
    result, done = RepublishedSettings(), done_before(account, restore, "RESTORE_SETTINGS")
    reported = dict(
        ContainerReport.objects.filter(node__atom__account=account)
        .values_list("node__atom")
        .annotate(Max("settings_revision"))
        .order_by()
    )
    for atom in _atoms(account, restore):
        if str(atom.pk) not in done and atom.pk not in without:
            jump = restore.jump if restore.database else 0
            known = max(reported.get(atom.pk, 0), settings_of(atom).revision)
            revision = republish_settings(atom, above=known + jump, actor=ACTOR)
            # A request for a new at-rest data key must be newer than any a container has met; each takes one now anyway.
            account.atoms.filter(pk=atom.pk).update(rekey_revision=F("rekey_revision") + jump)
            message = f"KMS settings of {atom.name} sealed anew as revision {revision}"
            record_step(atom, restore, "RESTORE_SETTINGS", message, revision=revision)
            result.sealed.append(atom)
    lost = PropertiesFile.objects.filter(atom__account=account, atom__kms_settings__mode=KmsSettings.Mode.BYOV)
    result.upload_again = [file.atom for file in lost.exclude(data_key__lost_at=None).select_related("atom")]
    return result


def _atoms(account: Account, restore: Restore) -> list[Atom]:
    settings = Q(kms_settings__sealed__isnull=False)
    met = settings | Q(nodes__isnull=False) if restore.database else settings
    return list(
        account.atoms.exclude(provisioned_at=None).filter(met).select_related("kms_settings").distinct().order_by("pk")
    )


def without_role(account: Account, roles: Collection[str]) -> int:
    """How many recipients of an active account nobody can log in for. roles: the names the vault has."""
    if not KmsAccount.is_active(account):
        return 0
    recipients = account.recipients.filter(shredded_at=None).values_list("pk", flat=True)
    return sum(str(pk) not in roles for pk in recipients)
