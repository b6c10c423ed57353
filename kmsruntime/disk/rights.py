"""Root in a directory that is somebody else's works with that one's rights: whatever links, pipes and names lie there, it reads
and writes what the owner could, and no more.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from kmsruntime.errors import StorageFailed

NOBODYS_GROUP: Final = 65534
PACKAGES: Final = (
    "certifi",
    "cryptography",
    "kmscore",
    "kmsruntime",
    "orjson",
    "urllib3",
)  # what is loaded when it is needed
_STARTED_AS: Final = os.geteuid()


def take_rights(user: int, directory: Path) -> None:
    """Of the user whose directory it is: the groups that are known to be his, and no other. Raises StorageFailed."""
    (group, groups), program = _groups_of(user), _program()
    try:
        os.setgroups(groups)
        os.setegid(group)
        os.seteuid(user)
    except OSError:
        raise StorageFailed(
            "rights_missing",
            f"{directory} belongs to {name_of(user)}, with whose rights root works there, and this root may not take them (it "
            f"has no CAP_SETUID or CAP_SETGID): start this as {name_of(user)}.",
        ) from None
    closed = _closed(program)
    if closed is not None:
        raise StorageFailed(
            "program_unreadable",
            f"{directory} belongs to {name_of(user)}, with whose rights root works there, and who cannot read {closed}, which "
            "this program needs: install the program and its Python where everybody can read them.",
        )


def environment() -> Mapping[str, str]:
    """The variables that the directory's files, and a properties file, may ask for; none of root's where they are another's."""
    return os.environ if os.geteuid() == _STARTED_AS else {}


def refuse_another(directory: Path) -> None:
    """Of what root does with what it finds there, and not with its owner's rights: starting a program. Raises StorageFailed."""
    if os.geteuid() != _STARTED_AS:
        owner = name_of(os.geteuid())
        raise StorageFailed(
            "directory_foreign",
            f"{directory} belongs to {owner}, who decides there what a program of root's would get: start this as {owner}.",
        )


def name_of(user: int) -> str:
    """For people."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def is_alone(user: int, group: int) -> bool:
    """Whether it is the user's own group, as many machines give each a group of the same name, and nobody else is in it."""
    members = {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group}
    entries = [entry for entry in grp.getgrall() if entry.gr_gid == group]  # a number may have several names
    with suppress(KeyError):
        entries.append(grp.getgrgid(group))  # a directory of people may tell of it, and not list it
    if not entries:
        return group == user and not members
    names = {entry.gr_name for entry in entries}
    return members.union(*(entry.gr_mem for entry in entries)) == names == {name_of(user)}


def _is_group(number: int) -> bool:
    with suppress(KeyError):
        grp.getgrgid(number)
        return True
    return number in {entry.gr_gid for entry in grp.getgrall()}


def _groups_of(user: int) -> tuple[int, list[int]]:
    """The user's own group, and all he is in. A user who is not entered on this machine is in none that is known: his own then
    has his number, as is usual, or is nobody's where a group has that number, which could open something to him."""
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return NOBODYS_GROUP if _is_group(user) else user, []
    return entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)


def _program() -> dict[Path, int]:
    """What the program and its interpreter are loaded from, now and later, and how it has to be accessible."""
    from importlib.util import find_spec

    loaded = {Path(file) for module in tuple(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    packages = [spec.submodule_search_locations or () for name in PACKAGES if (spec := find_spec(name))]
    found = {Path(place) for tops in packages for top in tops for place, _, _ in os.walk(top)}
    found = {place for place in found if place.name != "__pycache__"}  # is done without
    needs = dict.fromkeys(found | {file.parent for file in loaded}, os.R_OK | os.X_OK) | dict.fromkeys(loaded, os.R_OK)
    return {path: need for path, need in needs.items() if path.exists()}  # what lies in an archive is found without


def _closed(program: dict[Path, int]) -> Path | None:
    """The outermost directory or file of it that may not be used."""
    for path, need in sorted(program.items()):
        if not os.access(path, need, effective_ids=True):
            above = (part for part in reversed(path.parents) if not os.access(part, os.X_OK, effective_ids=True))
            return next(above, path)
    return None
