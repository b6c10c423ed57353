"""Which restore was made here last: `VAR/restored.json`, written before anything is put back, read by `after_restore`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from kmscore.durable import owner_of_directory, write_durably
from vaults.restore.account import Restore

FILE = "restored.json"


def note(var: Path, parts: Collection[str], taken_at: datetime) -> Restore:
    """Note a restore that begins now. Raises OSError."""
    restore = Restore(str(uuid.uuid4()), "database" in parts, "vault" in parts, taken_at, datetime.now(UTC))
    document = {
        "restore": restore.name,
        "parts": sorted(parts),
        "taken_at": restore.taken_at.isoformat(),
        "restored_at": restore.restored_at.isoformat(),
    }
    var.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(var / FILE, json.dumps(document).encode() + b"\n", owner=owner_of_directory(var))
    return restore


def noted(var: Path) -> Restore | None:
    """The restore that was noted last; None when there is none that can be read."""
    try:
        document = json.loads((var / FILE).read_bytes())
        times = [datetime.fromisoformat(document[name]) for name in ("taken_at", "restored_at")]
        parts = set(document["parts"])
        return Restore(str(document["restore"]), "database" in parts, "vault" in parts, times[0], times[1])
    except (OSError, ValueError, KeyError, TypeError):
        return None
