"""How other rooms seal: one save key per save, then as many values as the save has. The portal can seal and never open.

A save key is a data key of the recipient, used for one save only. Its wrapped form is stored in the hosted vault before
anything sealed with it may be written to the database: a value without its key must be impossible, an unused wrapped key
is harmless.
"""

import uuid
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import F

from accounts.models import Account
from atoms.models import Atom, Environment
from kmscore.refused import Refused
from kmscore.sealed import manifest
from kmscore.sealed.envelope import seal
from kmscore.sealed.kms_settings import settings_place
from kmscore.sealed.manifest import manifest_place
from kmscore.sealed.selfcheck import selfcheck_place
from vaults.hosted import calls
from vaults.models import DataKey, KmsAccount, Recipient


@dataclass(frozen=True, slots=True)
class SaveKey:
    """The data key of one save, for one recipient; the wrapped form is already in the hosted vault."""

    id: str
    account: str
    recipient: uuid.UUID
    document: int
    key_version: int
    plaintext: bytes = field(repr=False)

    def seal_value(self, path: tuple[str, ...], revision: int, value: str) -> bytes:
        """Seal an extension value for its path and revision."""
        place = manifest.value_place(self.account, str(self.recipient), path, revision, self.id)
        return seal(self.plaintext, value.encode(), place)

    def seal_manifest(self, listing: manifest.Manifest) -> bytes:
        """Seal an environment's manifest."""
        place = manifest_place(self.account, str(self.recipient), listing.revision, self.id)
        return seal(self.plaintext, listing.encode(), place)

    def seal_settings(self, path: tuple[str, ...], revision: int, content: bytes) -> bytes:
        """Seal an Atom's KMS settings or properties file."""
        place = settings_place(self.account, str(self.recipient), path, revision, self.id)
        return seal(self.plaintext, content, place)

    def seal_selfcheck(self, revision: int, value: bytes) -> bytes:
        """Seal the test value of an environment's self-check."""
        return seal(self.plaintext, value, selfcheck_place(self.account, str(self.recipient), revision, self.id))

    def record(self) -> DataKey:
        """Write the data key's row; called in the transaction that writes what it sealed."""
        Recipient.objects.filter(pk=self.recipient).update(data_keys_made=F("data_keys_made") + 1)
        return DataKey.objects.create(
            id=self.id, recipient_id=self.recipient, document=self.document, key_version=self.key_version
        )


def new_save_key(subject: Environment | Atom) -> SaveKey:
    """A data key for one save: two vault calls (up to four when the document is new), and no transaction open.

    Raises RowTampered, Refused: kms_inactive, not_provisioned, and the vault's own (kmscore/vaultclient/answers.py).
    """
    account = subject.account
    if transaction.get_connection().in_atomic_block:
        raise RuntimeError("The vault is never called inside a transaction.")
    if not KmsAccount.is_active(account):
        raise Refused("kms_inactive", _why_inactive(account))
    recipient = Recipient.objects.filter(pk=subject.pk, account=account).first()
    if recipient is None:
        raise Refused("not_provisioned", _why_no_keys(subject))
    recipient.verified(pk=subject.pk, account_id=account.pk)
    data_key = calls.new_data_key(recipient)
    key_id, document = str(uuid.uuid4()), recipient.next_document()
    calls.store_wrapped_keys(recipient, document, {key_id: data_key.wrapped})
    return SaveKey(key_id, str(account.pk), recipient.id, document, data_key.key_version, data_key.plaintext)


def _why_no_keys(subject: Environment | Atom) -> str:
    if subject.provisioned_at is not None:
        return (
            f"The keys of {subject.name} were made, and the note of them was taken away past the portal. Tell its operator; "
            "disabling the account's Key Management Service and enabling it again writes the note anew, and no value is lost."
        )
    if isinstance(subject, Atom):
        return "The hosted vault is still making this Atom's keys; try again in a moment."
    return "The hosted vault has no key for this environment yet."


def _why_inactive(account: Account) -> str:
    kms = getattr(account, "kms", None)
    if kms is not None and kms.state == KmsAccount.State.DISABLED:
        return (
            f"The Key Management Service of this account was disabled on {kms.since:%d %B %Y}: "
            "nothing can be sealed until it is enabled again."
        )
    if kms is not None and kms.state == KmsAccount.State.SHREDDED:
        return (
            f"The keys of this account were shredded on {kms.since:%d %B %Y}: "
            "activate its Key Management Service again first."
        )
    return "The Key Management Service of this account is not active."
