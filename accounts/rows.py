"""Shapes every table shares: UUID keys, and rows that grant access and therefore carry a signature."""

import hashlib
import hmac
import uuid
from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models


class RowTampered(Exception):
    """An access-granting row was written or changed past the application; it grants nothing."""


class UuidModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True


class SignedModel(UuidModel):
    """A row that grants access: an HMAC-SHA-256 over `SIGNED`, under a key outside the database (DESIGN.md §2).

    `save()` signs, `verified()` refuses. QuerySet.update() and bulk_create() do not sign: they must not touch SIGNED, and
    create only what is `signed()`.
    Saving other columns leaves the signature alone, and changing a signed one starts from a genuine row: so a row that was
    changed past the application never becomes genuine by being saved.
    """

    SIGNED: ClassVar[tuple[str, ...]]

    mac = models.BinaryField(editable=False, max_length=32)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        fields = kwargs.get("update_fields")
        signed = {self._meta.get_field(name).name for name in self.SIGNED}
        if fields is None or not signed.isdisjoint(fields):
            self._refuse_forged_stored_row()
            self.mac = self._signature()
            if fields is not None:
                kwargs["update_fields"] = {*fields, "mac"}
        super().save(*args, **kwargs)

    def _refuse_forged_stored_row(self) -> None:
        stored = None if self._state.adding else type(self)._base_manager.filter(pk=self.pk).first()
        if stored is not None:
            stored.verified()

    def signed(self) -> Self:
        """The row itself, signed: for bulk_create() of new ones, which saves no row by itself."""
        self.mac = self._signature()
        return self

    def has_valid_mac(self) -> bool:
        return hmac.compare_digest(bytes(self.mac), self._signature())

    def verified(self) -> Self:
        """The row itself. Raises RowTampered when it does not bear our signature."""
        if not self.has_valid_mac():
            raise RowTampered(f"{self._meta.label} {self.pk} does not bear the portal's signature.")
        return self

    def _signature(self) -> bytes:
        return signature(self._meta.label, self.pk, *(getattr(self, name) for name in self.SIGNED))


def signature(*values: Any) -> bytes:
    """HMAC-SHA-256 under the row key over length-prefixed texts of the values: the model's label, the id, the columns."""
    texts = [_canonical(value).encode() for value in values]
    message = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    return hmac.digest(settings.ROW_KEY, message, hashlib.sha256)


def _canonical(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bytes | memoryview):  # psycopg gives memoryviews
        return f"={bytes(value).hex()}"
    if hasattr(value, "isoformat"):
        return f"={value.isoformat()}"
    return f"={value}"


def is_uuid(text: object) -> bool:
    """Whether it is a UUID in the one form that we write: 36 characters, lower case."""
    try:
        return isinstance(text, str) and len(text) == 36 and str(uuid.UUID(text)) == text
    except ValueError:
        return False
