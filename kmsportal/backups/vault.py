"""The hosted vault's part of a backup: a snapshot of its raft storage, encrypted under the vault's own seal."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kmscore.durable import new_file
from kmscore.vaultclient.answers import VaultError
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import PLATFORM
from kmsportal.backups import record
from vaults.hosted.credentials import CredentialsBroken, read_credentials
from vaults.hosted.hvac_client import client_of
from vaults.hosted.renewal import renew

PATH: Final = "sys/storage/raft/snapshot"
TIMEOUT: Final = (2.0, 60.0)  # seconds to connect, seconds to wait for each piece
WITHIN: Final = 3600.0  # a snapshot has the size of the vault


class SnapshotRefused(Exception):
    """The vault gives no snapshot; the text says why."""


def take(address: str, ca: str | None, credentials: Path, directory: Path) -> str:
    """Write a snapshot into the directory, as the identity `backup`; returns the file's name.

    Raises SnapshotRefused, OSError.
    """
    try:
        backup = read_credentials(credentials).identities.get("backup")
    except CredentialsBroken as broken:
        raise SnapshotRefused(str(broken)) from None
    if backup is None:
        raise SnapshotRefused(
            f"{credentials} does not hold the identity backup: name its directory in KMS_CREDENTIALS."
        )
    try:
        client = client_of(Vault(address, ca=ca, timeout=TIMEOUT, within=WITHIN))
        client.auth.approle.login(backup.role_id, backup.secret_id, mount_point=PLATFORM)
        renew(credentials, lambda _, call: call(client))  # there is no process that could do so between two backups
        with new_file(directory / record.SNAPSHOT) as file:
            client.adapter.download(PATH, file.write)
        return record.SNAPSHOT
    except VaultError as error:
        failure = error
    (directory / record.SNAPSHOT).unlink(missing_ok=True)
    raise SnapshotRefused(f"The vault gives no snapshot: {_why(failure)}")


def _why(error: VaultError) -> str:
    if error.status in (400, 404, 405) or (error.status or 0) >= 500:
        return f"{error.sentence} Only a vault with raft storage has one; back up another storage by its own means."
    return error.sentence
