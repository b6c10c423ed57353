"""The database's part of a backup: SQLite's online backup, or PostgreSQL's own programs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from kmscore import durable
from kmsportal import links
from kmsportal.backups import record

SIDECARS = ("-wal", "-shm", "-journal")
SESSIONS = "accounts_session"  # a backup has none: whoever reads it later should not find who is signed in


class DatabaseRefused(Exception):
    """The database cannot be backed up or put back; the text says why and what to do."""


def is_sqlite(database: Mapping[str, Any]) -> bool:
    return str(database["ENGINE"]).endswith("sqlite3")


def back_up(database: Mapping[str, Any], directory: Path) -> str:
    """Write the database of these settings into the directory; returns the file's name. Consistent while it is in use.

    Raises DatabaseRefused, OSError.
    """
    if is_sqlite(database):
        _back_up_sqlite(Path(database["NAME"]), directory / record.SQLITE)
        return record.SQLITE
    file = directory / record.POSTGRES
    with durable.new_file(file) as output:
        words = ["--format=custom", "--no-owner", f"--exclude-table-data={SESSIONS}"]
        _run("pg_dump", words, database, output)
    return record.POSTGRES


def _back_up_sqlite(source: Path, target: Path) -> None:
    with durable.new_file(target):
        pass  # 0600 before anything is in it
    reading = f"{source.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(reading, uri=True)) as found, closing(sqlite3.connect(target)) as copy:
            found.backup(copy)
            _forget_sessions(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        durable.sync(target)
        return
    except sqlite3.Error as error:
        failure = DatabaseRefused(f"The database {source} cannot be read: {type(error).__name__}.")
    raise failure


def _forget_sessions(copy: sqlite3.Connection) -> None:
    if copy.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [SESSIONS]).fetchone():
        copy.execute("PRAGMA secure_delete=ON")
        copy.execute(f"DELETE FROM {SESSIONS}")  # noqa: S608 (our own name)
        copy.commit()


def put_back(database: Mapping[str, Any], directory: Path, name: str, aside: str) -> Path | None:
    """Replace the database of these settings. Returns where the old one is kept (SQLite), None for PostgreSQL.

    Refused while anybody has the SQLite file open. Raises DatabaseRefused, OSError.
    """
    if is_sqlite(database) != (name == record.SQLITE):
        raise DatabaseRefused("The backup is of the other kind of database: name the right one in KMS_DATABASE_URL.")
    if is_sqlite(database):
        return put_back_sqlite(directory / name, Path(database["NAME"]), aside)
    words = ["--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error"]
    with (directory / name).open("rb") as dump:
        _run("pg_restore", words, database, None, dump)
    return None


def put_back_sqlite(source: Path, target: Path, aside: str) -> Path | None:
    """Replace a SQLite file by a copy in one rename; what was there is kept with `aside` in its name.

    Raises DatabaseRefused while anybody has it open, OSError.
    """
    _refuse_open(target)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.restored")
    fresh.unlink(missing_ok=True)
    with durable.new_file(fresh, owner=durable.owner_of_directory(target.parent)) as file:
        record.copied(source, file.write)
    kept = target.with_name(f"{target.name}.{aside}") if target.exists() else None
    if kept is not None:
        os.link(target, kept)
    for suffix in SIDECARS:  # a journal of the old file would be played into the new one
        beside = Path(f"{target}{suffix}")
        if beside.exists():
            beside.replace(Path(f"{target}.{aside}{suffix}"))
    fresh.replace(target)
    durable.sync(target.parent)
    return kept


def _refuse_open(target: Path) -> None:
    """Leaving the write-ahead log is possible only for a single connection; it also leaves one file to be kept."""
    if not target.exists():
        return
    try:
        with closing(sqlite3.connect(target, timeout=0)) as alone:
            alone.execute("PRAGMA journal_mode=DELETE")
            return
    except sqlite3.OperationalError:
        pass
    except sqlite3.DatabaseError:  # it is broken: that is why a backup is put back
        return
    raise DatabaseRefused(f"{target} is in use: stop every process of the portal first.")


def _run(program: str, words: Sequence[str], database: Mapping[str, Any], output: Any, given: Any = None) -> None:
    """It is told all that Django tells libpq, above all to whom it may send the password. That goes by the environment: a
    command line is there for everybody to read."""
    told = links.libpq(database)
    kept = {"PATH", "HOME"} | links.libpq_variables()
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
    if password := told.pop("password", ""):
        environment["PGPASSWORD"] = password
    try:
        done = subprocess.run(
            [program, f"--dbname={make_conninfo(**told)}", "--no-password", *words],
            stdin=given or subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise DatabaseRefused(f"{program} is not installed: install the Debian package postgresql-client.") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise DatabaseRefused(f"{program} failed: {lines[0] if lines else 'it said nothing'}")
