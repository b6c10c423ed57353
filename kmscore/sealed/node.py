"""A node: who one enrolled container says it is, the portal's word for it, and the entry of both in the ledger.

Pure. The node's signing key (Ed25519, RFC 8032) is its name; nobody else has the private half. Web endorses it for an installer
token, the worker enters it in the ledger, and whoever grants a node something looks at all of it again (DESIGN.md §2).

A node is the sequence ``("kms-node/1", account, Atom, node, signing key, portal)``, an endorsement ``("kms-endorse/1",
SHA-256 of the node, installer token, person, end)``, an entry ``(node, its signature, endorsement, web's signature, admitted
by)``, as text in base64: one text for each node, since the vault counts every text of a request.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from kmscore.sealed.key_list import KEY_BYTES, KeyList, is_signed
from kmscore.sealed.sequence import (
    SequenceBroken,
    id_in,
    number,
    number_in,
    parts_in_form,
    parts_of,
    sequence,
    text_in,
)

NODE: Final = b"kms-node/1"
ENDORSEMENT: Final = b"kms-endorse/1"
MOST_CHARACTERS: Final = 650  # of an entry: 1,500 nodes of an Atom fit into a document of 1 MiB


class NotGenuine(Exception):
    """Not in its form, or not signed by whom it has to be. The text says which; it holds nothing secret."""


@dataclass(frozen=True, slots=True)
class NodeStatement:
    """key: the public half of its signing key, 32 bytes. portal: the portal's address as this machine was given it."""

    account: UUID
    atom: UUID
    node: UUID
    key: bytes
    portal: str

    def encode(self) -> bytes:
        return sequence([NODE, self.account.bytes, self.atom.bytes, self.node.bytes, self.key, self.portal.encode()])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises SequenceBroken."""
        account, atom, node, key, portal = parts_in_form(data, NODE, 5)
        if len(key) != KEY_BYTES:
            raise SequenceBroken("not a signing key")
        return cls(id_in(account), id_in(atom), id_in(node), key, text_in(portal))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the signing key in hexadecimal, 64 characters: what page and `status` show."""
        return hashlib.sha256(self.key).hexdigest()

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this node signed the message. signature: 64 bytes."""
        return is_signed(self.key, message, signature)


@dataclass(frozen=True, slots=True)
class Endorsement:
    """Web's word for a node. node: SHA-256 of its bytes. token: the installer token's id; person: who made that. end: until
    when it may be entered in the ledger, seconds since 1970; what was entered in time stays."""

    node: bytes
    token: UUID
    person: UUID
    end: int

    def encode(self) -> bytes:
        return sequence([ENDORSEMENT, self.node, self.token.bytes, self.person.bytes, number(self.end)])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises SequenceBroken."""
        node, token, person, end = parts_in_form(data, ENDORSEMENT, 4)
        return cls(node, id_in(token), id_in(person), number_in(end))


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A node in the ledger, everything as it was signed. admitted_by: of a machine that co-signs; empty so far."""

    node: bytes
    node_signature: bytes
    endorsement: bytes
    web_signature: bytes
    admitted_by: bytes = b""

    def encode(self) -> str:
        """The text in the ledger: about 550 characters."""
        parts = [self.node, self.node_signature, self.endorsement, self.web_signature, self.admitted_by]
        return base64.b64encode(sequence(parts)).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises NotGenuine; nothing of it is believed before `judged`."""
        try:
            if len(text) <= MOST_CHARACTERS:
                return cls(*parts_of(base64.b64decode(text, validate=True)))
        except (binascii.Error, SequenceBroken, TypeError, ValueError):
            pass
        raise NotGenuine("This is not an entry of the ledger.")

    def judged(self, listed: KeyList) -> tuple[NodeStatement, Endorsement]:
        """What it says, once node and web have signed it. Raises NotGenuine.

        Numbers and times are the caller's to judge: an endorsement's end counts when a node is entered, never afterwards.
        """
        try:
            node, endorsement = NodeStatement.decode(self.node), Endorsement.decode(self.endorsement)
        except (SequenceBroken, ValueError) as broken:
            raise NotGenuine(f"The ledger's entry is {broken}.") from None
        if not node.signed(self.node, self.node_signature):
            raise NotGenuine("The node did not sign its entry.")
        if endorsement.node != hashlib.sha256(self.node).digest():
            raise NotGenuine("The portal endorsed another node.")
        if not listed.signed("web", self.endorsement, self.web_signature):
            raise NotGenuine("The portal did not endorse this node.")
        return node, endorsement
