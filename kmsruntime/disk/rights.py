"""Root in a directory that is somebody else's works with that one's rights: whatever links, pipes and names lie there, it reads
and writes what the owner could, and no more.
"""

from __future__ import annotations

import os
from pathlib import Path

from kmsruntime.errors import StorageFailed


def work_as_owner(directory: Path) -> None:
    """Take the rights of whoever could put another directory there: the owner of the first part of the path, from the
    top, that is not root's. Nothing happens for anybody but root, and in root's own places. Raises StorageFailed."""
    if os.geteuid() != 0:
        return
    path = Path(os.path.abspath(directory))  # noqa: PTH100 (resolve() would follow what may be somebody's link)
    for part in (*reversed(path.parents), path):
        try:
            found = part.lstat()
        except OSError:
            return  # what is not there is made by root, and is root's
        if found.st_uid != 0:
            _become(found.st_uid, found.st_gid)
            return


def _become(user: int, group: int) -> None:
    import pwd

    try:
        group = pwd.getpwuid(user).pw_gid
    except KeyError:
        group = group or user  # never root's
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    if not os.access(__file__, os.R_OK, effective_ids=True):
        raise StorageFailed(
            "program_unreadable",
            "As root in somebody else's directory this works with that one's rights, and he cannot read this program: install "
            "it where he can.",
        )


def work_as_oneself() -> None:
    """Root again, for a program that root starts."""
    if os.getuid() == 0 and os.geteuid() != 0:
        os.seteuid(0)
        os.setegid(0)
        import grp
        import pwd

        name = pwd.getpwuid(0).pw_name
        os.setgroups([0, *(row.gr_gid for row in grp.getgrall() if name in row.gr_mem)])
