"""Development's signing keys as files: each process has its own, and `all` everybody's, for tests that play every process."""

from pathlib import Path

from accounts.keyring import KEYS_FILE, LIST_FILE, PROCESSES, development_key, development_list, write_signing_keys
from kmscore.sealed.key_list import sign_key_list


def write_development_keys(directory: Path) -> None:
    """Into the directory of a process, or of `all`."""
    directory.mkdir(mode=0o700, exist_ok=True)
    own = PROCESSES if directory.name == "all" else [name for name in PROCESSES if name == directory.name]
    write_signing_keys(directory / KEYS_FILE, [(name, development_key(name)) for name in own])
    (directory / LIST_FILE).write_text(sign_key_list(development_key("root"), development_list()))


def root_of(credentials: Path) -> dict[str, str]:
    """The variable that names the root key of the portal whose directories these are; development's when they have no other."""
    path = credentials / "portal-root"
    return {"KMS_PORTAL_ROOT": path.read_text().strip()} if path.exists() else {}
