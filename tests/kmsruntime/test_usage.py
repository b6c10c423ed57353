"""Command lines that are wrong: one line says what, and quotes nothing, for a token may be what was typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmsruntime.disk.home import Config, Home
from tests.live import ROOT

CANARY = "canary-token"
ADDRESSES = ("--portal", "https://localhost:1", "--vault", "https://localhost:1")


def command(directory: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8", **more}
    return subprocess.run(
        [sys.executable, "-m", "kmsruntime", *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((CANARY,), "COMMAND"),
        (("enrol", *ADDRESSES, CANARY), "standard input"),
        (("enrol", *ADDRESSES, "--token", CANARY), "standard input"),
        (("enrol", *ADDRESSES, f"--token={CANARY}"), "standard input"),
        (("enrol", CANARY), "--portal"),
        (("enrol", "--portal", CANARY, "--vault", CANARY), "--portal"),
        (("enrol", *ADDRESSES, "--portal-ca", CANARY), "--portal-ca"),
        (("enrol", *ADDRESSES, "--wait", CANARY), "--wait"),
        (("enrol", *ADDRESSES, "--wait", "nan"), "--wait"),
        (("enrol", *ADDRESSES, "--allow-env", f"AUTH_TOKEN={CANARY}"), "--allow-env"),
        (("enrol", *ADDRESSES, "--allow-vault", CANARY), "vault's address"),
        (("run", "--poll", CANARY), "--poll"),
        (("sync", CANARY), "does not take"),
        (("sync", f"--{CANARY}"), "does not take"),
        (("status", f"--json={CANARY}"), "--json"),
        (("version", CANARY), "does not take"),
        (("get", CANARY), "FIELD"),
        (("status", "--dir", ""), "--dir"),
        (("enrol", *ADDRESSES, "--key-file", ""), "--key-file"),
        (("exec",), "PROGRAM"),
    ],
)
def test_a_wrong_command_line_is_said_without_what_was_typed(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = command(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("A", "--property", "", "B"),
        ("--property", "", "A", "B"),
        ("A", "B", "--property", ""),
        ("--", "A", "B"),
        ("--", "-A", "B"),
    ],
)
def test_options_stand_before_between_or_behind_the_arguments(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = command(tmp_path, "get", *words)
    assert "not_enrolled" in done.stderr, "it was understood, and nothing is held here"


def test_several_vaults_are_allowed_with_an_option_between_them(tmp_path: Path) -> None:
    home = Home(tmp_path / "kms")
    home.directory.mkdir()
    home.write_config(Config("https://portal.example", "https://vault.example"))
    done = command(tmp_path, "allow-vault", "https://a.example", "--dir", str(home.directory), "https://b.example")
    assert done.returncode == 0, done.stderr
    assert home.read_config().allow_vaults == ("https://a.example:443", "https://b.example:443")


def test_without_a_command_the_commands_are_shown(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "allow-vault" in done.stderr


@pytest.mark.parametrize("directory", ["/tmp/a%sb", "/tmp/100%", "/tmp/%(prog)s", "/tmp/a\nb"])
def test_help_shows_whatever_the_directory_is_called(tmp_path: Path, directory: str) -> None:
    done = command(tmp_path, "run", "--help", KMS_RUNTIME_DIR=directory, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"now {directory.replace(chr(10), chr(92) + 'n')})" in done.stdout


def test_an_empty_variable_is_the_default_and_an_unknown_home_is_said(tmp_path: Path) -> None:
    assert str(tmp_path / ".kms-runtime") in command(tmp_path, "status", KMS_RUNTIME_DIR="").stderr
    done = command(tmp_path, "status", "--dir", "~nobody-of-this-name/x")
    assert (done.returncode, "[storage_failed]" in done.stderr) == (77, True)


def test_a_program_without_a_name_is_not_found(tmp_path: Path) -> None:
    done = command(tmp_path, "exec", "--", "", "argument")
    assert (done.returncode, "[command_not_found]" in done.stderr) == (127, True)


def test_what_went_wrong_is_never_taken_for_a_value(tmp_path: Path) -> None:
    """With standard error closed it went to standard output, into `v=$(kms-runtime get …)`."""
    command = f"{sys.executable} -m kmsruntime get --dir {tmp_path} Orders/password 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert done.stdout == ""
