"""The ledger: the documents in the hosted vault that decide who may read and whose keys may be destroyed.

The vault is the ledger, the database a cache (DESIGN.md §1): a row that says something else is not believed. The worker writes
it (identity provisioner), each change upon the version it read; whoever grants or destroys something reads it himself.

environments/<id>  {account}: whose it is, written once, before there is a key, and changed by nobody
atoms/<id>         {account}: as an environment's
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from hvac import Client

from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultMisconfigured, VaultRefused, list_of, member_of
from kmscore.vaultclient.mounts import AUTHORITY, OF_ATOMS, RecipientMounts
from vaults.hosted.sessions import as_identity

Kind = Literal["environments", "atoms"]


class ForeignRecipient(Refused):
    """The ledger has an environment or Atom as another account's than the one that something was asked for."""


@dataclass(frozen=True, slots=True)
class LedgerDocument:
    """version: upon which the next change is made."""

    version: int
    members: dict[str, Any]


def read(identity: str, kind: Kind, subject: object) -> LedgerDocument | None:
    """As this identity; None when there is no such document. Raises the vault's errors."""
    try:
        answer = as_identity(identity, lambda client: _read(client, f"{kind}/{subject}"))
    except VaultRefused as refusal:
        if refusal.status == 404:
            return None
        raise
    found = member_of(answer, "data")
    members, version = member_of(found, "data"), member_of(found, "metadata").get("version")
    if type(version) is not int:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return LedgerDocument(version, members)


def _read(client: Client, path: str) -> dict[str, Any]:
    found: dict[str, Any] = client.secrets.kv.v2.read_secret_version(
        path, mount_point=AUTHORITY, raise_on_deleted_version=True
    )
    return found


def note_owner(mounts: RecipientMounts, recipient: object, account: object) -> None:
    """Write whose a recipient is, unless that is written (identity provisioner).

    Raises ForeignRecipient when it is another account's, and the vault's errors.
    """
    path = f"{_kind(mounts)}/{recipient}"

    def create(client: Client) -> None:
        client.secrets.kv.v2.create_or_update_secret(path, {"account": str(account)}, cas=0, mount_point=AUTHORITY)

    if read("provisioner", _kind(mounts), recipient) is None:
        as_identity("provisioner", create)
    refuse_foreign("provisioner", mounts, recipient, account)


def refuse_foreign(identity: str, mounts: RecipientMounts, recipient: object, account: object) -> None:
    """Raises ForeignRecipient unless the ledger has this recipient as the account's; the vault's errors."""
    document = read(identity, _kind(mounts), recipient)
    if document is None or document.members.get("account") != str(account):
        sentence = f"The vault's ledger does not have {recipient} as this account's: nothing was done with its keys."
        raise ForeignRecipient("recipient_foreign", sentence)


def recipients_besides(known: Collection[str], identity: str, account: object) -> set[str]:
    """The ids of all other environments and Atoms that the ledger has as an account's, deleted ones too; each document is read.

    Raises the vault's errors.
    """
    kinds: tuple[Kind, ...] = ("environments", "atoms")
    ids = [(kind, name) for kind in kinds for name in as_identity(identity, partial(_listed, kind))]
    documents = ((name, read(identity, kind, name)) for kind, name in ids if name not in known)
    return {name for name, found in documents if found is not None and found.members.get("account") == str(account)}


def _listed(kind: Kind, client: Client) -> list[str]:
    try:
        found = client.secrets.kv.v2.list_secrets(kind, mount_point=AUTHORITY)
    except VaultRefused as refusal:
        if refusal.status != 404:  # none yet
            raise
        return []
    return [str(name) for name in list_of(member_of(found, "data"), "keys")]


def _kind(mounts: RecipientMounts) -> Kind:
    return "atoms" if mounts is OF_ATOMS else "environments"
