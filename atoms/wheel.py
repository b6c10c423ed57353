"""The runtime's wheel, as the portal hands it to containers."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from django.conf import settings


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel file and the SHA-256 (hex) of its bytes."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name


def newest() -> Wheel | None:
    """The newest wheel in KMS_RUNTIME_WHEELS, or None when none was built (`make runtime`)."""
    found = sorted(settings.RUNTIME_WHEELS.glob("kmsportal_runtime-*.whl"), key=lambda path: path.stat().st_mtime_ns)
    return _hashed(found[-1], found[-1].stat().st_mtime_ns) if found else None


@lru_cache(maxsize=4)
def _hashed(path: Path, changed: int) -> Wheel:
    return Wheel(path, hashlib.sha256(path.read_bytes()).hexdigest())
