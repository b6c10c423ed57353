"""A file of the directory that is not what it was written as is said by name, or does not matter: nothing unforeseen happens."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

import kmsruntime.__main__ as program
from kmsruntime.disk.home import Home
from kmsruntime.errors import RuntimeProblem
from tests.kmsruntime.pieces import enrolled_by_hand

VALUES = [None, True, -1, 10**18, 1e300, "", "a\0b", "x", [], {}, ["x"], [None], {"a": 1}, [{}], [{"state": "failed"}]]
TEXTS = [b"", b"[]", b"null", b"{}", b'{"format":1}', b"\xff\xfe{}", b"[" * 100_000]
FILES = ["config.json", "atom.json", "environment.json", "handover.json", "kms-settings.json", "state.json", "store"]
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("status", {"json": False}),
    ("status", {"json": True}),
    ("sync", {"accept_restore": False, "wait": 0.0}),
    ("check", {"json": False}),
    ("get", {"connection": "Orders DB", "field": "user", "property": ""}),
    ("allow-vault", {"addresses": ["https://b.example"], "allow_env": [], "remove": [], "list": False}),
]
Kept = list[tuple[Path, bytes]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return enrolled_by_hand(tmp_path / "kms")


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, one in inside:
        yield from places(one, (*at, name))


def changed(document: Any) -> Iterator[Any]:
    """Every value at every place, and without it."""
    for *above, last in filter(None, places(document)):
        for value in (*VALUES, ...):
            copy = orjson.loads(orjson.dumps(document))
            holder = copy
            for name in above:
                holder = holder[name]
            holder[last] = value
            if value is ...:
                del holder[last]
            yield copy


def stored(header: Any, store: bytes) -> bytes:
    """A store with another header, which says that it is whole."""
    before, text = int.from_bytes(store[11:15], "big"), orjson.dumps(header)
    front = store[:11] + len(text).to_bytes(4, "big") + text + hashlib.sha256(text).digest()
    return front + store[15 + before + 32 :]


def texts(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield from (*TEXTS, content[: len(content) // 2], content[:40] + b"\xff" + content[41:])
    if path.name == "store":
        header = orjson.loads(content[15 : 15 + int.from_bytes(content[11:15], "big")])
        yield from (stored(one, content) for one in changed(header))
    else:
        yield from map(orjson.dumps, changed(orjson.loads(content)))


def run(home: Home, command: str, options: dict[str, Any]) -> None:
    """Raises what it does not say by name."""
    with suppress(RuntimeProblem):
        program.COMMANDS[command](argparse.Namespace(directory=home.directory, **options))


@pytest.mark.parametrize("name", FILES)
def test_whatever_a_file_holds_is_said_by_name(home: Home, name: str) -> None:
    """Texts where numbers belong, lists of nothing and the like ended in what nobody had foreseen."""
    whole = [(path, path.read_bytes()) for path in home.directory.iterdir()]
    for text in texts(home.directory / name):
        for command, options in COMMANDS if text in TEXTS else COMMANDS[:2]:
            restore(whole)
            (home.directory / name).write_bytes(text)
            try:
                run(home, command, options)
            except Exception as error:
                raise AssertionError(f"{command} with {name}: {text[:400]!r}") from error


def restore(whole: Kept) -> None:
    for path, content in whole:
        path.write_bytes(content)


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, _link], ids=["directory", "pipe", "link"])
@pytest.mark.parametrize("name", [*FILES, "lock", "run.lock"])
def test_what_is_no_file_is_said_by_name(home: Home, name: str, make: Callable[[Path], None]) -> None:
    (home.directory / name).unlink(missing_ok=True)
    make(home.directory / name)
    for command, options in COMMANDS:
        run(home, command, options)
