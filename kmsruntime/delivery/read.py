"""What the portal delivers on `sync`, read strictly: types and shapes here, whether it is true in kmsruntime/delivery/verify.py.

Pure. Everything in it is untrusted: the manifest, opened with the environment's keys, decides.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kmscore.sealed.manifest import Path
from kmsruntime.errors import DeliveryRefused
from kmsruntime.remote.fields import number, small_number, text, uuid_text

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
    environment = document["environment"]
    revision, manifest = number(document["revision"]), document["manifest"]
    rows, plain_rows = document["values"], document["plain"]
    values = {_path(path): _sealed(at, key, place, content) for path, at, key, place, content in rows}
    plain = {_path(path): (number(at), text(value)) for path, at, value in plain_rows}
    if len(values) != len(rows) or len(plain) != len(plain_rows):
        raise ValueError
    return Delivery(
        account=uuid_text(document["account"]),
        atom=uuid_text(document["atom"]["id"]),
        attachment_revision=small_number(document["attachment_revision"]),
        settings_revision=small_number(document["settings_revision"]),
        rekey_revision=small_number(document.get("rekey_revision", 0)),
        environment="" if environment is None else uuid_text(environment["id"]),
        environment_name="" if environment is None else text(environment["name"]),
        revision=revision,
        manifest=_sealed(revision, manifest["data_key"], manifest["document"], manifest["sealed"])
        if manifest is not None
        else None,
        values=values,
        plain=plain,
    )


def _path(parts: Any) -> Path:
    if type(parts) is not list:
        raise ValueError
    return tuple(map(text, parts))


def _sealed(revision: Any, data_key: Any, document: Any, sealed: Any) -> Sealed:
    return Sealed(number(revision), text(data_key), number(document), binascii.a2b_base64(sealed, strict_mode=True))
