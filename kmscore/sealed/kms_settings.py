"""An Atom's KMS settings as they are sealed for it: mode, wrapped, and which file goes with them.

Pure, and shared by portal and container. The file is sealed once, when it is uploaded; these settings are sealed anew with
every change and name the file by its revision and data key, so that neither can be swapped or rolled back alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from kmscore.sealed.envelope import Place

FORMAT: Final = 1
MODES: Final = ("hosted", "byov")


class KmsDocumentBroken(ValueError):
    """The text is not an Atom's KMS settings."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """Which sealed properties file: the settings' revision it was uploaded with, and the id of its data key."""

    revision: int
    data_key: str


@dataclass(frozen=True, slots=True)
class KmsDocument:
    """mode: ``hosted`` or ``byov``; byov has a file, and only byov can be wrapped. A hosted one may keep a file for later."""

    revision: int
    mode: str
    wrapped: bool
    file: FileRef | None

    def encode(self) -> bytes:
        return orjson.dumps({"format": FORMAT} | asdict(self), option=orjson.OPT_SORT_KEYS)


def settings_place(account: str, atom: str, path: tuple[str, ...], revision: int, data_key_id: str) -> Place:
    """Where an Atom's KMS settings or properties file belong; kmscore/byov/customer.py has the paths."""
    return Place(account, atom, "kms-file", path, revision, data_key_id)


def decode_kms_document(text: bytes) -> KmsDocument:
    """The inverse of `encode`, strictly. Raises KmsDocumentBroken."""
    try:
        document = orjson.loads(text)
        if document.pop("format") == FORMAT:
            return _checked(document)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    raise KmsDocumentBroken("not an Atom's KMS settings")


def _checked(document: dict[str, Any]) -> KmsDocument:
    reference = document.pop("file")
    found = KmsDocument(**document, file=FileRef(**reference) if reference else None)
    kinds = (type(found.revision), type(found.wrapped)) == (int, bool)
    named = found.file is None or (type(found.file.revision), type(found.file.data_key)) == (int, str)
    needs = found.mode == "hosted" and not found.wrapped or found.mode == "byov" and found.file is not None
    if not (kinds and named and needs and found.mode in MODES):
        raise TypeError
    return found
