"""What a node signs when it asks for its logins, and when it has them.

Pure. A request is the sequence ``("kms-request/1", kind, account, Atom, node, enrolment, replaces, account's number, Atom's
number, receiving key, time)``, a confirmation ``("kms-confirm/1", account, Atom, node, enrolment, account's number, Atom's
number, accessor, …)``; both go with the node's signature of 64 bytes. Numbers are the ledger's, as the node last saw them: what
was signed before a withdrawal counts no more after it. The receiving key is a fresh one for each request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args
from uuid import UUID

from kmscore.sealed.sequence import SequenceBroken, id_in, number, number_in, parts_in_form, sequence, text_in

REQUEST: Final = b"kms-request/1"
CONFIRMATION: Final = b"kms-confirm/1"
AGE_SECONDS: Final = 900  # a request is taken up within, by the vault's clock
MOST_ACCESSORS: Final = 4
Kind = Literal["installation", "attachment", "enabling", "renewal", "lost", "rekey", "role"]


@dataclass(frozen=True, slots=True)
class HandoverSubject:
    """Of whom a request, a hand-over and a confirmation speak, and under which numbers of the ledger."""

    account: UUID
    atom: UUID
    node: UUID
    enrolment: UUID
    account_number: int
    atom_number: int

    def parts(self) -> list[bytes]:
        ids = (self.account, self.atom, self.node, self.enrolment)
        return [*(one.bytes for one in ids), number(self.account_number), number(self.atom_number)]

    @classmethod
    def of(cls, parts: list[bytes]) -> Self:
        """Raises SequenceBroken."""
        account, atom, node, enrolment = map(id_in, parts[:4])
        return cls(account, atom, node, enrolment, *map(number_in, parts[4:]))


@dataclass(frozen=True, slots=True)
class Request:
    """replaces: the enrolment whose receiving key was lost, so that its logins are destroyed without an alarm. receiving_key:
    handover.RECEIVING_BYTES. time: the vault's clock, seconds since 1970."""

    kind: Kind
    place: HandoverSubject
    replaces: UUID | None
    receiving_key: bytes
    time: int

    def encode(self) -> bytes:
        replaces = self.replaces.bytes if self.replaces else b""
        place = self.place.parts()
        parts = [REQUEST, self.kind.encode(), *place, replaces, self.receiving_key, number(self.time)]
        return sequence(parts)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises SequenceBroken."""
        kind, *place, replaces, receiving_key, time = parts_in_form(data, REQUEST, 10)
        if text_in(kind) not in get_args(Kind):
            raise SequenceBroken("not a request that a node makes")
        former = id_in(replaces) if replaces else None
        return cls(text_in(kind), HandoverSubject.of(place), former, receiving_key, number_in(time))  # type: ignore[arg-type]

    def is_of_age(self, now: int) -> bool:
        """Whether it was made within AGE_SECONDS of the vault's clock, before or after: a standby's may be behind."""
        return abs(now - self.time) <= AGE_SECONDS


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The node has logged in: what it says explains the logins of these accessors {mount: accessor}."""

    place: HandoverSubject
    accessors: Mapping[str, str]

    def encode(self) -> bytes:
        named = [part.encode() for pair in sorted(self.accessors.items()) for part in pair]
        return sequence([CONFIRMATION, *self.place.parts(), *named])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises SequenceBroken."""
        parts = parts_in_form(data, CONFIRMATION, 6, more=True)
        place, named = parts[:6], list(map(text_in, parts[6:]))
        accessors = dict(zip(named[::2], named[1::2], strict=False))
        if len(named) % 2 or not accessors or len(accessors) * 2 != len(named) or len(accessors) > MOST_ACCESSORS:
            raise SequenceBroken("not the logins of a node")
        return cls(HandoverSubject.of(place), accessors)
