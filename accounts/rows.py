"""Shapes every table shares: UUID keys, and rows that people or processes decide by and that therefore carry a signature."""

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Collection
from typing import Any, ClassVar, Self

import structlog
from django.conf import settings
from django.db import models, transaction
from django.db.models.signals import post_delete

from accounts import memory, signing
from accounts.keyring import SIGNATURE_BYTES
from kmscore.sealed.sequence import sequence

log = structlog.get_logger()
RACE_SECONDS = 2.0  # somebody may save a row between its reading and the look at it
WEB = ("web",)  # the process that people decide by


class RowTampered(Exception):
    """A row that somebody decides by was written or changed past the application; it grants nothing. mend: who ends that, how."""

    mend = "Tell the portal's operator."


class UuidModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True


class SignedModel(UuidModel):
    """A row that is believed by its signature: over `SIGNED`, by a process of `SIGNERS` (DESIGN.md §1, the second rule).

    Without SIGNERS it is an HMAC-SHA-256 under the row key, which several processes have.
    What is signed has a generation, which grows with each saving of it: a row of an earlier one, or one that was taken away, is not
    believed by a process that saw what came after (accounts/memory.py).
    `save()` signs, `verified()` refuses. QuerySet.update() and bulk_create() do not sign: they must not touch SIGNED, and
    create only what is `signed()`.
    Saving other columns leaves the signature alone, and changing a signed one starts from a genuine row: so a row that was
    changed past the application never becomes genuine by being saved, however shortly it was there.
    """

    SIGNED: ClassVar[tuple[str, ...]]
    SIGNERS: ClassVar[tuple[str, ...]] = ()
    REMEMBERED: ClassVar[bool] = True  # False: what an earlier row of it grants is judged by other means
    COMES_BACK: ClassVar[bool] = False  # True: its id follows from what it is about, so that one may be made again

    generation = models.PositiveBigIntegerField(default=0, editable=False)
    signature = models.BinaryField(editable=False, max_length=SIGNATURE_BYTES)

    class Meta:
        abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.REMEMBERED:  # what goes with another row is told of by this signal alone
            post_delete.connect(_remember_deleted, sender=cls)

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        row = super().from_db(*args, **kwargs)
        row._remember()
        return row

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self._remember()

    @classmethod
    def end(cls, pk: uuid.UUID) -> None:
        """Nothing of this id is believed from here on: also where its row is not found, for it may be hidden until later."""
        memory.remember(cls._name_of(pk))

    @classmethod
    def has_ended(cls, pk: uuid.UUID) -> bool:
        return memory.newest(cls._name_of(pk)) >= memory.OVER

    @classmethod
    def outdate(cls, pk: uuid.UUID) -> None:
        """As `end`, but for a row of this id that is made later, whose generation begins at `by_clock()`."""
        memory.remember(cls._name_of(pk), by_clock() + 2)  # one that was made this very second has the next number

    @classmethod
    def _name_of(cls, pk: uuid.UUID) -> str:
        """Under which it is remembered: an environment and its keys in the vault have the same id."""
        return f"{cls._meta.label_lower}-{pk.hex}"

    def _remember(self) -> None:
        """What is signed, as it was loaded: {column: value}, of those that were."""
        names = (*self.SIGNED, "generation", "signature")
        self._loaded = {name: self.__dict__[name] for name in names if name in self.__dict__}
        self._loaded_at = time.time()
        self._is_committed = not transaction.get_connection().in_atomic_block

    def save(self, *args: Any, **kwargs: Any) -> None:
        fields = kwargs.get("update_fields")
        signed = {*self.SIGNED, *(name.removesuffix("_id") for name in self.SIGNED)}
        if fields is not None and signed.isdisjoint(fields):
            super().save(*args, **kwargs)
            return
        with transaction.atomic(savepoint=False):
            if not self._state.adding:
                self._start_from_genuine(fields)
            self.signed()
            if fields is not None:
                kwargs["update_fields"] = {*fields, "generation", "signature"}
            super().save(*args, **kwargs)
        self._remember()

    def _start_from_genuine(self, fields: Collection[str] | None) -> None:
        """Both as it was loaded and as it stands there by now: whoever writes to the table could swap it in between.

        What somebody else changed meanwhile, and this save does not change, is taken over: the signature is over the row as it
        will be. Raises RowTampered, also when the row is gone: another one could take its place before this is written.
        """
        loaded = getattr(self, "_loaded", {})
        if loaded.keys() >= {*self.SIGNED, "generation", "signature"}:
            as_loaded = type(self)(**{"pk": self.pk, **loaded})
            as_loaded._loaded_at = self._loaded_at
            as_loaded.verified()
        stored = type(self)._base_manager.select_for_update(no_key=True).filter(pk=self.pk).first()
        if stored is None or stored.pk != self.pk or not stored.is_newest():
            raise _tampered(self)
        changed = {name for name in self.SIGNED if name not in loaded or getattr(self, name) != loaded[name]}
        written = changed if fields is None else set(fields)
        self.generation = stored.generation
        for name in self.SIGNED:
            if written.isdisjoint((name, name.removesuffix("_id"))):
                setattr(self, name, getattr(stored, name))

    def is_newest(self) -> bool:
        """Whether it is genuine and no later one was ever seen: of a row that is locked."""
        return self._signer() is not None and (
            not self.REMEMBERED or memory.newest(self._name_of(self.pk)) <= self.generation
        )

    def signed(self) -> Self:
        """The row itself, signed: for bulk_create() of new ones, which saves no row by itself. Raises NoSigningKey."""
        seen = memory.newest(self._name_of(self.pk)) if self.REMEMBERED else 0
        self.generation = max(self.generation, seen if seen < memory.OVER else 0) + 1
        if self.REMEMBERED and self.generation > 1:
            memory.remember(self._name_of(self.pk), self.generation)
        if self.SIGNERS:
            own = signing.own_process()
            self.signature = signing.sign(own if own in self.SIGNERS else self.SIGNERS[0], self.signed_bytes())
        else:
            self.signature = row_mac(self.signed_bytes())
        return self

    def has_valid_signature(self) -> bool:
        return self.signed_by() is not None

    def signed_by(self) -> str | None:
        """Which of SIGNERS signed the row as it is ("" for the row key); None: it was changed past the application, or is the
        row of an earlier day."""
        signer = self._signer()
        return None if signer is None or not self._is_joined() or (self.REMEMBERED and self._is_past()) else signer

    def _is_joined(self) -> bool:
        """Whether the rows that were loaded with it are those that it names: whoever may change the schema joins others."""
        for name, held in self._state.fields_cache.items():
            relation = self._meta.get_field(name)
            if not isinstance(relation, models.ForeignKey):
                continue
            if getattr(self, relation.attname) != (
                None if held is None else getattr(held, relation.target_field.attname)
            ):
                return False
        return True

    def _signer(self) -> str | None:
        if not self.SIGNERS:
            return "" if hmac.compare_digest(bytes(self.signature), row_mac(self.signed_bytes())) else None
        process = signing.signer_of(self.signed_bytes(), self.signature)
        return process if process in self.SIGNERS else None

    def _is_past(self) -> bool:
        """Whether a later one of this genuine row was seen before it was loaded; a row that nobody loaded is asked of just now.

        Of two that were committed, the later is remembered from here on.
        """
        seen = memory.newest(self._name_of(self.pk), getattr(self, "_loaded_at", time.time()) - RACE_SECONDS)
        if seen > self.generation:
            log.error("row_of_an_earlier_day", row=self._meta.label, id=str(self.pk))
            return True
        loaded = getattr(self, "_loaded", {}).get("generation")
        if self.generation > max(seen, 1) and loaded == self.generation and self._is_committed:
            memory.remember(self._name_of(self.pk), self.generation)
        return False

    def verified(self, **asked: object) -> Self:
        """The row itself. asked: the columns and values that it was looked for by.

        Whoever may change the schema can have a question answered with another genuine row. Raises RowTampered for that, and
        when it does not bear our signature.
        """
        if not self.has_valid_signature() or any(getattr(self, name) != value for name, value in asked.items()):
            raise _tampered(self)
        return self

    def sign_anew(self, process: str) -> bool:
        """Replace the signature of a key that this process used before by one of the key it uses now; whether it was replaced.

        A row that somebody saves meanwhile is left as they saved it. Raises RowTampered.
        """
        former = bytes(self.signature)
        if not self.SIGNERS or self.verified().signed_by() != process or signing.is_current(process, former):
            return False
        new = signing.sign(process, self.signed_bytes())
        same = type(self)._base_manager.filter(pk=self.pk, signature=former)
        return bool(same.update(signature=new))

    def signed_bytes(self) -> bytes:
        """What is signed: the model's label, the id, the generation, the columns, as a sequence."""
        return message_of(self._meta.label, self.pk, self.generation, *(getattr(self, name) for name in self.SIGNED))


def _tampered(row: SignedModel) -> RowTampered:
    return RowTampered(f"{row._meta.label} {row.pk} does not bear the portal's signature, or is of an earlier day.")


def _remember_deleted(instance: SignedModel, **_: Any) -> None:
    if instance._signer() is not None:  # another's row could have been pushed in among what is deleted
        (instance.outdate if instance.COMES_BACK else instance.end)(instance.pk)


def by_clock() -> int:
    """A generation to begin with that is higher than that of any earlier row of the same id."""
    return int(time.time())


def lock_in_order(rows: "models.QuerySet[Any]") -> None:
    """Lock them until the transaction ends, by primary key as everybody who locks many: an UPDATE alone takes them as they lie."""
    list(rows.order_by("pk").select_for_update(no_key=True).values_list("pk"))


def message_of(*values: Any) -> bytes:
    """The sequence of the values' texts."""
    return sequence(_canonical(value).encode() for value in values)


def canonical_json(document: object) -> bytes:
    """The one form of a document that is signed: ASCII, names sorted, whatever a database keeps it as."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def row_mac(message: bytes) -> bytes:
    """HMAC-SHA-256 under the row key."""
    return hmac.digest(settings.ROW_KEY, message, hashlib.sha256)


def _canonical(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bytes | memoryview):  # psycopg gives memoryviews
        return f"={bytes(value).hex()}"
    if isinstance(value, dict | list):  # a database may give a document's names in another order
        return f"json={canonical_json(value).decode()}"  # which no text is taken for
    if hasattr(value, "isoformat"):
        return f"={value.isoformat()}"
    return f"={value}"


def is_uuid(text: object) -> bool:
    """Whether it is a UUID in the one form that we write: 36 characters, lower case."""
    try:
        return isinstance(text, str) and len(text) == 36 and str(uuid.UUID(text)) == text
    except ValueError:
        return False
