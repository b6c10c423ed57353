"""Builds the runtime's wheel, which the portal serves to containers, when its sources are newer than the last one."""

from __future__ import annotations

from pathlib import Path

from kmsportal.demo import parts
from kmsportal.demo.directory import ROOT, StackDirectory


def build_wheel(place: StackDirectory) -> None:
    """VAR/wheels holds exactly one wheel afterwards. Raises DemoError."""
    directory = place.directory("wheels")
    wheels = sorted(directory.glob("*.whl"), key=_changed)
    if wheels and _changed(wheels[-1]) > _newest_source():
        return
    parts.run_once(
        *(place, "wheel", ["-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]),
        parts.runtime_environment(),
        failure="The runtime's wheel cannot be built.",
    )
    for old in wheels:
        if old.exists() and _changed(old) < _newest_source():
            old.unlink()


def _newest_source() -> float:
    sources = [ROOT / "pyproject.toml", *(ROOT / "kmscore").rglob("*.py"), *(ROOT / "kmsruntime").rglob("*.py")]
    return max(_changed(source) for source in sources)


def _changed(path: Path) -> float:
    return path.stat().st_mtime
