"""What the portal delivers on `sync`, read strictly: types and shapes here, whether it is true in kmsruntime/delivery/verify.py.

Pure. Everything in it is untrusted: the manifest, opened with the environment's keys, decides.
"""

from __future__ import annotations

import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kmscore.sealed.manifest import Path
from kmsruntime.errors import DeliveryRefused

FORMAT: Final = 1


class Sealed(NamedTuple):
    """A sealed value (or the manifest): which data key opens it, and in which of the vault's documents that key is."""

    revision: int
    data_key: str
    document: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """One answer. environment "" while detached; manifest None and nothing else while nothing was ever published.

    plain: {path: (revision, value)}.
    """

    account: str
    atom: str
    attachment_revision: int
    settings_revision: int
    rekey_revision: int  # 0 from a portal that does not know of it
    environment: str
    environment_name: str
    revision: int
    manifest: Sealed | None
    values: Mapping[Path, Sealed] = field(repr=False)
    plain: Mapping[Path, tuple[int, str]] = field(repr=False)


def read_delivery(document: Mapping[str, Any]) -> Delivery:
    """Raises DeliveryRefused when anything is missing, of another type, or there twice."""
    try:
        return _read(document)
    except (KeyError, TypeError, ValueError, binascii.Error):
        pass
    raise DeliveryRefused("answer_invalid", "The portal's answer could not be read; update kms-runtime or the portal.")


def _read(document: Mapping[str, Any]) -> Delivery:
    if document["format"] != FORMAT:
        raise ValueError
    environment = document["environment"] or {"id": "", "name": ""}
    revision, manifest = _number(document["revision"]), document["manifest"]
    rows, plain_rows = document["values"], document["plain"]
    values = {_path(path): _sealed(at, key, number, text) for path, at, key, number, text in rows}
    plain = {_path(path): (_number(at), _text(value)) for path, at, value in plain_rows}
    if len(values) != len(rows) or len(plain) != len(plain_rows):
        raise ValueError
    return Delivery(
        account=_uuid(document["account"]),
        atom=_uuid(document["atom"]["id"]),
        attachment_revision=_number(document["attachment_revision"]),
        settings_revision=_number(document["settings_revision"]),
        rekey_revision=_number(document.get("rekey_revision", 0)),
        environment=_uuid(environment["id"]) if environment["id"] else "",
        environment_name=_text(environment["name"]),
        revision=revision,
        manifest=_sealed(revision, manifest["data_key"], manifest["document"], manifest["sealed"])
        if manifest
        else None,
        values=values,
        plain=plain,
    )


def _path(parts: Any) -> Path:
    if type(parts) is not list:
        raise ValueError
    return tuple(map(_text, parts))


def _sealed(revision: Any, data_key: Any, document: Any, text: Any) -> Sealed:
    return Sealed(_number(revision), _text(data_key), _number(document), binascii.a2b_base64(text, strict_mode=True))


def _number(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 63:
        raise ValueError
    return number


def _text(text: Any) -> str:
    if type(text) is not str:
        raise ValueError
    return text


def _uuid(text: Any) -> str:
    if str(uuid.UUID(_text(text))) != text:
        raise ValueError
    return _text(text)
