"""Reading what nobody else may read: a file of its directory's own, and not what a link or a pipe of that name leads to. Pure.

Whoever owns a directory can put links of any name into it, and root would read, and write on, what only others may see.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 128 * 1024 * 1024  # twice what a portal may answer, and so more than is ever kept of it


class NotPrivate(Exception):
    """The file cannot be taken for a secret of ours. The text says why, after its name."""

    def __init__(self, why: str, *, open_to_others: bool = False) -> None:
        super().__init__(why)
        self.open_to_others = open_to_others


def read_private(path: Path, *, public: bool = False) -> bytes:
    """The file's content, at most MOST_BYTES. public: others may read it, too. Raises NotPrivate; OSError, for a link too."""
    # A pipe would not be opened before somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivate("is not a file")
        if found.st_mode & 0o077 and not public:
            raise NotPrivate("can be read by others", open_to_others=True)
        if found.st_uid not in (0, os.geteuid(), path.parent.stat().st_uid):
            raise NotPrivate("belongs to another user than its directory")
        if found.st_size > MOST_BYTES:
            raise NotPrivate(f"is larger than {MOST_BYTES >> 20} MiB")
        return file.read(
            found.st_size
        )  # and nothing that is written behind it meanwhile: files of ours are replaced whole
