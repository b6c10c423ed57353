"""Looks for canaries: in files, in answers, in processes; as they are and in every form they might be written down in."""

import base64
import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path


def forms(needle: bytes) -> set[bytes]:
    """The needle raw, reversed, as hex, base64 (whatever stands before it), URL, JSON, HTML, repr and UTF-16."""
    found = {needle, needle[::-1], needle.hex().encode(), needle.hex().upper().encode(), repr(needle)[2:-1].encode()}
    found |= {urllib.parse.quote_from_bytes(needle, safe="").encode(), urllib.parse.quote_plus(needle).encode()}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + needle).rstrip(b"=")
        whole = encoded[(0, 2, 3)[before] : len(encoded) - (1 if (before + len(needle)) % 3 else 0)]
        found |= {whole, whole.replace(b"+", b"-").replace(b"/", b"_")}
    with suppress(UnicodeDecodeError):
        text = needle.decode()
        for part in re.findall("[A-Za-z0-9]{12,}", text):  # whatever was done to the characters between them
            if part != text:
                found |= forms(part.encode())
        found |= {json.dumps(text)[1:-1].encode(), text.encode("utf-16-le"), text.encode("utf-16-be")}
    return found


class Scan:
    """Collects `hits`: (name of the canary, place). A canary is text or, for keys, bytes."""

    def __init__(self, canaries: Mapping[str, str | bytes]) -> None:
        self.needles = {
            name: forms(value.encode() if isinstance(value, str) else value) for name, value in canaries.items()
        }
        self.hits: set[tuple[str, str]] = set()
        self.scanned = 0

    def content(self, place: str, content: bytes) -> None:
        self.scanned += len(content)
        for name, needles in self.needles.items():
            if any(needle in content for needle in needles):
                self.hits.add((name, place))

    def files(self, *directories: Path, leave_out: Iterable[Path] = ()) -> None:
        """Every file below, its name included."""
        left_out = set(leave_out)
        for directory in directories:
            for path in sorted(directory.rglob("*")):
                self.content(f"{path} (name)", str(path).encode())
                if path.is_file() and path not in left_out:
                    with suppress(FileNotFoundError):  # a temporary file of a moment ago
                        self.content(str(path), path.read_bytes())

    def processes(self, ours: Iterable[int] = ()) -> None:
        """The arguments of every process, and the environment of ours."""
        mine = set(ours)
        for directory in Path("/proc").glob("[0-9]*"):
            pid = int(directory.name)
            for name in ("cmdline", "environ") if pid in mine else ("cmdline",):
                with suppress(OSError):  # it has ended, or is not ours to look into
                    self.content(f"{name} of a process", (directory / name).read_bytes())


def session_of(pid: int) -> set[int]:
    """A process and everything that runs in its session."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(directory.name)) == pid:
                found.add(int(directory.name))
    return found
