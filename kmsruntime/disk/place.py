"""Which directory a path names: found once, without ~, links and dots; and for root, with whose rights it is worked in.

Whoever owns a directory, or may write in it, decides what the names in it mean. So root looks at every directory and link on
the way, from the top, before it follows it or reads anything.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from kmsruntime.disk import files
from kmsruntime.disk.rights import is_alone, name_of, take_rights
from kmsruntime.errors import StorageFailed

_LINKS: Final = 40  # on one way, as the kernel has it
_KEY_FILE: Final = "--key-file (key_file in config.json)"
_ACCESS_LIST: Final = "system.posix_acl_access"


def settled(directory: Path) -> Path:
    """The directory itself; what of it is not there yet as it was named.

    Root has the rights of the one user, besides root, whose directories and links lead there, when this returns. Raises
    StorageFailed, for root also where others still could put another directory in its place.
    """
    path = files.expanded(directory)
    if os.geteuid() != 0:
        return _followed(path, lambda part, found: None, "--dir")
    judge = _Judge("--dir")
    found = _followed(path, judge.look, "--dir")
    judge.conclude()
    files.look(found)  # the owner may not be able to go where root went
    return found


def settled_beside(directory: Path) -> Path:
    """The same for another directory that a container's files name, judged anew at each use: for root that is still root, no
    part of the way there is anybody else's. Raises StorageFailed.
    """
    if os.geteuid() != 0:
        return _followed(directory, lambda part, found: None, _KEY_FILE)
    judge = _Judge(_KEY_FILE, takes_rights=False)
    found = _followed(directory, judge.look, _KEY_FILE)
    judge.conclude()
    return found


def _followed(path: Path, look: Callable[[Path, os.stat_result], None], option: str) -> Path:
    """Where an absolute path leads. `look` gets every directory and link on the way before it is followed.

    option: how another way is named.
    """
    place, rest, links = Path("/"), list(path.parts), 0
    while rest:
        name = rest.pop(0)
        here = place.parent if name == ".." else place / name  # "/" begins anew
        found = files.look(here)
        if found is None and ".." not in rest:
            return here.joinpath(*rest)
        if found is None or links > _LINKS:
            raise StorageFailed("storage_failed", f"{path} leads nowhere: name the directory itself with {option}.")
        look(here, found)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            rest[:0] = files.target(here).parts
        else:
            place = here
    return place


class _Judge:
    """Of one way from the top: whose it is besides root's, and whether others could lead it elsewhere.

    option: how another way is named. takes_rights: of the one whose it is; without, it has to be root's alone.
    """

    def __init__(self, option: str, *, takes_rights: bool = True) -> None:
        self._option, self._takes_rights = option, takes_rights
        self._owner = 0
        self._shared: Path | None = None  # where everybody may make an entry that only its owner may take away

    def look(self, part: Path, found: os.stat_result) -> None:
        """Takes the rights of the first owner that is not root. Raises StorageFailed."""
        self._shared = None
        if found.st_uid not in (0, self._owner):
            if not self._takes_rights:
                raise StorageFailed(
                    "directory_foreign",
                    f"{part} belongs to {name_of(found.st_uid)}, who could lead root elsewhere: run chown -h root "
                    f"{shlex.quote(str(part))}, or choose a directory of root's alone with {self._option}.",
                )
            if self._owner:
                raise StorageFailed(
                    "directory_foreign",
                    f"{part} belongs to {name_of(found.st_uid)}, and the way there to {name_of(self._owner)}: choose a "
                    f"directory with {self._option} that one user alone, besides root, can move.",
                )
            self._owner = found.st_uid
            take_rights(self._owner, part)
        if stat.S_ISDIR(found.st_mode) and _is_open(part, found):
            if not found.st_mode & stat.S_ISVTX:
                raise StorageFailed(
                    "directory_open_to_others",
                    f"Others may write in {part} and so lead root elsewhere: run chmod go-w {shlex.quote(str(part))}, or "
                    f"choose another directory with {self._option}.",
                )
            self._shared = part

    def conclude(self) -> None:
        """At the end of the way. Raises StorageFailed."""
        if self._shared is not None:
            raise StorageFailed(
                "directory_shared",
                f"Everybody may write in {self._shared}: make a directory of your own there first (mkdir -m 700), or choose "
                f"one elsewhere, with {self._option}.",
            )


def _is_open(directory: Path, found: os.stat_result) -> bool:
    """Whether others than its owner may write in it; the group that bears his name and holds nobody else is himself."""
    if not found.st_mode & stat.S_IWGRP:
        return bool(found.st_mode & stat.S_IWOTH)
    listed: list[str] = []
    with suppress(OSError):  # a file system without access lists; with one, the group's bits are those of all it lists
        listed = os.listxattr(directory)
    return bool(found.st_mode & stat.S_IWOTH) or _ACCESS_LIST in listed or not is_alone(found.st_uid, found.st_gid)
