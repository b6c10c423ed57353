"""What a backup refuses, and how a database is put back; the whole way is tests/vaults/restore/test_restore.py."""

import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command

from accounts.keyring import DEVELOPMENT_ROOT
from kmsportal import links
from kmsportal.backups import database, record, restored
from kmsportal.demo.directory import ROOT, write_json
from tests.conftest import HostedVault
from tests.customer import make_certificates
from tests.kmscore.byov.situations import serving
from tests.servers import Postgres, postgres_binaries, start_postgres

NOW = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)


def sqlite(path: Path, value: str) -> Path:
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE t (v TEXT)")
        made.execute("INSERT INTO t VALUES (?)", (value,))
        made.commit()
    return path


def held(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as found:
        return [row[0] for row in found.execute("SELECT v FROM t")]


def settings_of(path: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    directory = record.new_directory(tmp_path / "backups", NOW)
    name = database.back_up(settings_of(sqlite(tmp_path / "source.sqlite3", "then")), directory)
    record.write(directory, record.BackupRecord(NOW, 2, "sqlite", {name: record.measured(directory / name)}, {}))
    return directory


def test_a_backup_is_never_written_over(tmp_path: Path, backup: Path) -> None:
    with pytest.raises(FileExistsError):
        record.new_directory(tmp_path / "backups", NOW)
    with pytest.raises(FileExistsError):
        database.back_up(settings_of(tmp_path / "source.sqlite3"), backup)


def test_a_database_in_use_is_backed_up_whole(tmp_path: Path) -> None:
    path = sqlite(tmp_path / "source.sqlite3", "committed")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES ('in flight')")
        name = database.back_up(settings_of(path), tmp_path)
        writer.execute("COMMIT")
    assert held(tmp_path / name) == ["committed"]
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no record", "other format", "strange file"])
def test_a_damaged_backup_is_refused_before_anything_is_touched(backup: Path, tmp_path: Path, damage: str) -> None:
    file, note = backup / record.SQLITE, backup / record.RECORD
    document = json.loads(note.read_text())
    if damage == "cut":
        os.truncate(file, 100)
    elif damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
    elif damage == "gone":
        file.unlink()
    elif damage == "no record":
        note.unlink()
    elif damage == "other format":
        note.write_text(json.dumps(document | {"format": 2}))
    else:
        note.write_text(json.dumps(document | {"files": {"../../etc/passwd": document["files"][record.SQLITE]}}))
    with pytest.raises(CommandError) as refused:
        call_command("restore", source=backup, var=tmp_path / "var", yes=True)
    assert str(backup) in str(refused.value)
    assert not (tmp_path / "var").exists()


def test_the_database_before_is_kept_and_its_journal_is_not_played_into_the_new_one(
    backup: Path, tmp_path: Path
) -> None:
    target = sqlite(tmp_path / "portal.sqlite3", "now")
    copy = tmp_path / "killed"
    copy.mkdir()
    with closing(sqlite3.connect(target)) as writer:
        writer.execute("INSERT INTO t VALUES ('in the journal')")
        writer.commit()
        for name in ("portal.sqlite3", "portal.sqlite3-wal"):  # as kill -9 leaves it
            shutil.copy2(tmp_path / name, copy / name)
    kept = database.put_back_sqlite(backup / record.SQLITE, copy / "portal.sqlite3", "before-x")
    assert held(copy / "portal.sqlite3") == ["then"]
    assert kept is not None
    assert held(kept) == ["now", "in the journal"]
    assert stat.S_IMODE((copy / "portal.sqlite3").stat().st_mode) == 0o600


def test_a_database_somebody_has_open_is_left_alone(backup: Path, tmp_path: Path) -> None:
    target = sqlite(tmp_path / "portal.sqlite3", "now")
    with closing(sqlite3.connect(target)) as other:
        assert other.execute("SELECT count(*) FROM t").fetchone() == (1,)
        with pytest.raises(database.DatabaseRefused, match="in use"):
            database.put_back_sqlite(backup / record.SQLITE, target, "before-x")
    assert held(target) == ["now"]


def test_a_broken_database_does_not_keep_a_good_one_out(backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "portal.sqlite3"
    target.write_bytes(b"no database at all, but long enough to look like a file" * 100)
    database.put_back_sqlite(backup / record.SQLITE, target, "before-x")
    assert held(target) == ["then"]


def test_a_restore_is_noted_before_it_begins_and_each_is_another(tmp_path: Path) -> None:
    first, second = (restored.note(tmp_path, ["database"], NOW) for _ in range(2))
    assert first.name != second.name
    assert restored.noted(tmp_path) == second
    assert (second.database, second.vault, second.taken_at) == (True, False, NOW)
    assert restored.noted(tmp_path / "nowhere") is None


# -- the vault ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_vault_without_raft_storage_is_one_clear_line(
    hosted_vault: HostedVault, settings: Any, tmp_path: Path
) -> None:
    settings.CREDENTIALS = str(hosted_vault.credentials / "backup")
    with pytest.raises(CommandError, match="Only a vault with raft storage has one") as refused:
        call_command("backup", to=tmp_path, only="vault")
    assert "\n" not in str(refused.value)
    left = next(tmp_path.iterdir())
    assert list(left.iterdir()) == [], "no record, so it is no backup"
    with pytest.raises(record.BackupBroken):
        record.read(left)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["web", "worker", "shredder"])
def test_only_the_backups_own_identity_takes_a_snapshot(
    hosted_vault: HostedVault, settings: Any, tmp_path: Path, name: str
) -> None:
    settings.CREDENTIALS = str(hosted_vault.credentials / name)
    with pytest.raises(CommandError, match="does not hold the identity backup"):
        call_command("backup", to=tmp_path, only="vault")


def test_a_vault_whose_restore_did_not_finish_does_not_start(tmp_path: Path) -> None:
    from kmsportal.demo.directory import DemoError, StackDirectory
    from kmsportal.demo.servers import OpenBao

    openbao = OpenBao(StackDirectory(tmp_path, 8000), 1, 2)
    with pytest.raises(DemoError, match="seal.key is missing"):
        openbao.restore(tmp_path / "snapshot", "before-x")
    (openbao.directory / "restoring").write_text("1")
    (openbao.directory / "seal.key").write_text("kept")
    with pytest.raises(DemoError, match="did not finish"):
        openbao.first_start()
    assert (openbao.directory / "seal.key").read_text() == "kept"


def test_a_command_runs_on_an_embedded_stack_with_its_keys_and_its_vault(tmp_path: Path) -> None:
    write_json(tmp_path / "ports.json", {"openbao": 1, "openbao_cluster": 2, "valkey": 3})
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "portal-root").write_text(DEVELOPMENT_ROOT.hex())
    code = "from django.conf import settings as s; print(s.VAR, s.VAULT_ADDR, s.CREDENTIALS, s.ROW_KEY.decode())"
    done = demo(tmp_path, "shell", "-v", "0", "-c", code)
    key = (tmp_path / "secrets" / "row_key").read_text()
    assert done.stdout.split() == [str(tmp_path), "http://127.0.0.1:1", str(tmp_path / "credentials" / "web"), key], (
        done.stderr
    )
    done = demo(tmp_path, "backup", "--to", str(tmp_path / "b"), "--only", "vault")
    assert "credentials/backup/identities.json cannot be read" in done.stderr
    assert "is not a stack's directory" in demo(tmp_path / "other", "check").stderr


def demo(var: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "demo", "--var", str(var), "--manage", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = start_postgres()
    yield server
    server.stop()


def postgres_settings(server: Postgres) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": server.user,
        "PASSWORD": server.password,
        "HOST": "127.0.0.1",
        "PORT": server.port,
    }


def test_postgresql_goes_to_a_file_and_back(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setenv("PATH", f"{postgres_binaries()}:{os.environ['PATH']}")
    settings = postgres_settings(postgres)
    login = f"host=127.0.0.1 port={postgres.port} user={postgres.user} password={postgres.password} dbname=postgres"
    with psycopg.connect(login, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (v TEXT)")
        connection.execute("INSERT INTO t VALUES ('then')")
        assert database.back_up(settings, tmp_path) == record.POSTGRES
        connection.execute("UPDATE t SET v = 'now'")
    assert stat.S_IMODE((tmp_path / record.POSTGRES).stat().st_mode) == 0o600
    database.put_back(settings, tmp_path, record.POSTGRES, "before-x")
    with psycopg.connect(login) as connection:
        assert connection.execute("SELECT v FROM t").fetchall() == [("then",)]
    (tmp_path / record.POSTGRES).write_bytes(b"no dump")
    with pytest.raises(database.DatabaseRefused, match="pg_restore failed") as refused:
        database.put_back(settings, tmp_path, record.POSTGRES, "before-x")
    assert postgres.password not in str(refused.value)


def test_no_program_sends_the_password_where_the_settings_want_tls(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is on the way answers the question for TLS with no: once pg_dump and pg_restore went on in the clear."""
    monkeypatch.setenv("PATH", f"{postgres_binaries()}:{os.environ['PATH']}")
    database.back_up(postgres_settings(postgres), tmp_path)
    heard: list[bytes] = []

    def refuse_tls(connection: socket.socket) -> None:
        heard.append(connection.recv(400))
        connection.sendall(b"N")
        heard.append(connection.recv(400))

    link = "postgres://kms:canary@localhost:{}/kms?sslmode=verify-full&application_name=kms%20portal"
    with serving(refuse_tls) as port:
        monkeypatch.setenv("KMS_TEST_DATABASE", link.format(port))
        settings = links.database("KMS_TEST_DATABASE", None)
        (tmp_path / "new").mkdir()
        with pytest.raises(database.DatabaseRefused, match="server does not support SSL"):
            database.back_up(settings, tmp_path / "new")
        with pytest.raises(database.DatabaseRefused, match="server does not support SSL"):
            database.put_back(settings, tmp_path, record.POSTGRES, "before-x")
    assert len(heard) >= 4, "both programs have asked"
    assert set(heard) == {b"\0\0\0\x08\x04\xd2\x16\x2f", b""}, "for TLS, and then nothing"


def test_the_systems_authorities_are_trusted_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By psycopg and by pg_dump. With verify-full alone libpq trusts ~/.postgresql/root.crt."""
    server = start_postgres()
    try:
        authority = make_certificates(server.directory, "DNS:localhost")
        owner = (server.directory / "data").stat()
        for name in ("server.key", "server.crt"):
            os.chown(server.directory / name, owner.st_uid, owner.st_gid)
            (server.directory / name).chmod(0o600)
        link = f"postgres://{server.user}:{server.password}@localhost:{server.port}/postgres"
        with psycopg.connect(link, autocommit=True) as found:
            found.execute("ALTER SYSTEM SET ssl = on")
            found.execute(f"ALTER SYSTEM SET ssl_cert_file = '{server.directory}/server.crt'")
            found.execute(f"ALTER SYSTEM SET ssl_key_file = '{server.directory}/server.key'")
            found.execute("SELECT pg_reload_conf()")
        monkeypatch.setenv("PATH", f"{postgres_binaries()}:{os.environ['PATH']}")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))  # whose word is the system's, to OpenSSL

        def settings(options: str) -> dict[str, Any]:
            monkeypatch.setenv("KMS_TEST_DATABASE", f"{link}?{options}")
            return links.database("KMS_TEST_DATABASE", None)

        for options in ("sslmode=verify-full&sslrootcert=system", "sslrootcert=system"):
            told = links.libpq(settings(options))
            with psycopg.connect(**told) as found:
                row = found.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
            assert (told["sslmode"], row) == ("verify-full", (True,))
        assert database.back_up(settings("sslmode=verify-full&sslrootcert=system"), tmp_path) == record.POSTGRES
        with pytest.raises(psycopg.OperationalError, match=r"\.postgresql/root\.crt"):
            psycopg.connect(**links.libpq(settings("sslmode=verify-full")))
    finally:
        server.stop()


def test_no_command_line_has_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("KMS_TEST_DATABASE", "postgres://kms:canary@db.example.org/kms?sslmode=verify-full")
    name = database.back_up(links.database("KMS_TEST_DATABASE", None), tmp_path)
    said = (tmp_path / name).read_text()
    assert "sslmode=verify-full" in said
    assert "canary" not in said


def test_without_its_programs_postgresql_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": 1}
    with pytest.raises(database.DatabaseRefused, match="install the Debian package postgresql-client"):
        database.back_up(settings, tmp_path)


def test_a_backup_of_the_other_kind_of_database_is_refused(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(database.DatabaseRefused, match="other kind"):
        database.put_back(settings_of(tmp_path / "p.sqlite3"), backup, record.POSTGRES, "before-x")
