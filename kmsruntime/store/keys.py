"""At-rest data keys: where they come from (the seam for Bring Your Own Vault) and where they lie on this machine.

A store names its key by id. A new key's file is durable before the store that needs it, and the old key's file goes after
it, so at every moment the key of the store in use is there. A wrapped encryption key has no file.
"""

from __future__ import annotations

import base64
import os
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from kmscore.sealed.envelope import KEY_BYTES
from kmsruntime.disk import files
from kmsruntime.disk.home import read_document, write_document
from kmsruntime.disk.place import settled_beside
from kmsruntime.errors import StorageFailed, StoreDamaged

_MARK_BYTES: Final = 8
_ID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class AtRestKey:
    """A data key for one state of the store. source: ``hosted`` or ``byov``; name and version say which vault key made it.

    memory_only: a wrapped encryption key, which is never written in the clear; only the vault opens `wrapped` again.
    """

    plaintext: bytes = field(repr=False)
    wrapped: str = field(repr=False)
    source: str
    name: str
    version: int
    memory_only: bool = False


class KeySource(Protocol):
    """A vault that makes at-rest data keys and opens the ones it made.

    Pure, like all of this file: what talks to a vault is in keysource/hosted.py and keysource/customer.py. Both raise their
    vault's errors; `unwrap` of the hosted vault raises StoreDamaged for a key it cannot open (any more).
    """

    def new_data_key(self) -> AtRestKey: ...

    def unwrap(self, wrapped: str) -> bytes: ...


def marked(path: str) -> str:
    """A path for one container's KeyFile, which would remove the keys of another container with the same path."""
    return f"{path}.{os.urandom(_MARK_BYTES).hex()}"


def is_marked(found: str, path: str) -> bool:
    """Whether `marked` made it of this path."""
    return re.fullmatch(rf"{re.escape(path)}\.[0-9a-f]{{{2 * _MARK_BYTES}}}", found) is not None


class KeyFile:
    """The files `<path>.<key id>`, mode 0600; the path can be on a tmpfs. All raise StorageFailed, for root also where others
    could put another directory in the place of the path's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, key_id: str) -> Path:
        """What it is called, for people."""
        return self._path.with_name(f"{self._path.name}.{key_id}")

    def _settled(self, key_id: str) -> Path:
        return settled_beside(self._path.parent) / self.of(key_id).name

    def write(self, key_id: str, key: bytes) -> None:
        """Durable before this returns."""
        file = self._settled(key_id)
        if not file.parent.is_dir():
            files.make_private_directory(file.parent, "--key-file")
        write_document(file, {"id": key_id, "key": base64.b64encode(key).decode()})

    def try_out(self) -> None:
        """Keeps a key of no worth and removes it: only that shows whether a key can be kept there."""
        key_id = str(uuid.uuid4())
        self.write(key_id, bytes(KEY_BYTES))
        files.remove(self._settled(key_id))

    def read(self, key_id: str) -> bytes | None:
        """The key, None when its file is missing or damaged, or is somebody else's who was there first."""
        file = self._settled(key_id)
        with suppress(StoreDamaged, StorageFailed, KeyError, TypeError, ValueError):
            document = read_document(file)
            if document is not None and document["id"] == key_id:
                key = base64.b64decode(document["key"], validate=True)
                return key if len(key) == KEY_BYTES else None
        return None

    def keep_only(self, key_id: str) -> None:
        """Remove the files of other keys: of the store before, and of runs that did not finish."""
        name, kept = re.escape(self._path.name), self._settled(key_id)
        ours = re.compile(rf"{name}\.{_ID}|\.{name}\.{_ID}\.[0-9a-f]{{8}}\.new")
        for found in files.names(kept.parent):
            if ours.fullmatch(found) and found != kept.name:
                with suppress(OSError):
                    kept.with_name(found).unlink()
