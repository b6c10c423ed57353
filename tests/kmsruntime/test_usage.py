"""Command lines that are wrong: one line says what, and quotes nothing, for a token may be what was typed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import certifi
import pytest

from kmsruntime.disk.credentials import read_atom, write_atom
from kmsruntime.disk.home import Config, Home
from tests.kmsruntime.pieces import enrolled_by_hand
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


def shell(line: str, *, home: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    """A line in which $KMS is the program. more: variables."""
    environment = {"PATH": os.environ["PATH"], "KMS": f"{sys.executable} -m kmsruntime", "HOME": str(home), **more}
    environment |= {"PYTHONPATH": str(ROOT)}
    return subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False, cwd=home, env=environment)


@pytest.mark.parametrize(
    "command", ["status", "status --json", "get Orders\\ DB user", "allow-vault --list", "version"]
)
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_an_output_that_takes_nothing_is_said_by_name(tmp_path: Path, command: str, where: str) -> None:
    """It was unforeseen, a traceback, or nothing at all with exit code 0."""
    enrolled_by_hand(tmp_path / ".kms-runtime")
    done = shell(f"$KMS {command} {where}", home=tmp_path)
    assert (done.returncode, done.stderr.count(b"\n")) == (77, 1), done.stderr
    assert done.stderr.endswith(b"[output_failed]\n")


def test_help_that_does_not_arrive_is_said_too(tmp_path: Path) -> None:
    done = shell("$KMS sync --help >/dev/full", home=tmp_path)
    assert (done.returncode, done.stderr.endswith(b"[output_failed]\n")) == (77, True)


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_what_nobody_hears_changes_no_exit_code_and_goes_nowhere_else(tmp_path: Path, where: str) -> None:
    assert shell(f"$KMS status {where}", home=tmp_path).returncode == 67
    enrolled_by_hand(tmp_path / ".kms-runtime")
    done = shell(f"$KMS exec -- echo given {where}", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"given\n"), "it says what is missing"
    assert shell(f"$KMS sync {where}", home=tmp_path).returncode == 70


@pytest.mark.parametrize("where", ["<&-", "</dev/null", "0>written", "<bytes"])
def test_without_a_token_on_standard_input_nothing_is_enrolled(tmp_path: Path, where: str) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    done = shell(f"$KMS enrol {' '.join(ADDRESSES)} {where}", home=tmp_path)
    assert (done.returncode, done.stderr.endswith(b"[installer_token_unreadable]\n")) == (68, True), done.stderr


@pytest.mark.parametrize("option", ["--key-file", "--portal-ca", "--vault-ca"])
def test_a_path_that_cannot_be_kept_is_refused(tmp_path: Path, option: str) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    (odd / "file").write_bytes(Path(certifi.where()).read_bytes())
    done = shell(f"$KMS enrol {' '.join(ADDRESSES)} {option} caf*/file", home=tmp_path)
    assert (done.returncode, done.stderr.endswith(b"must have names in UTF-8. [path_invalid]\n")) == (2, True)
    assert option.encode() in done.stderr


def test_a_directory_of_any_name_is_worked_in(tmp_path: Path) -> None:
    """What went wrong there is kept and reported as a text."""
    home = enrolled_by_hand(tmp_path / os.fsdecode(b"caf\xe9"))
    home.handover.chmod(0o644)
    done = shell("$KMS sync --dir caf*; $KMS status --dir caf*", home=tmp_path)
    assert b"[file_open_to_others]" in done.stderr
    assert b"unforeseen" not in done.stderr + done.stdout
    assert b"caf\\udce9" in done.stdout


def test_names_in_letters_that_the_terminal_has_not_are_shown(tmp_path: Path) -> None:
    home = enrolled_by_hand(tmp_path / ".kms-runtime")
    write_atom(home, replace(read_atom(home), atom_name="Größe 日本"))
    done = shell("$KMS status", home=tmp_path, PYTHONIOENCODING="latin-1")
    assert "Größe \\u65e5\\u672c".encode("latin-1") in done.stdout, done.stderr


ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("few_letters", ASCII, ids=["PYTHONIOENCODING", "LC_ALL"])
def test_help_and_usage_are_said_in_whatever_letters_there_are(tmp_path: Path, few_letters: dict[str, str]) -> None:
    """Help that named a directory with an umlaut was something unforeseen."""
    named = {"KMS_RUNTIME_DIR": "/tmp/größe", "COLUMNS": "200", **few_letters}
    done = shell("$KMS run --help", home=tmp_path, **named)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"now /tmp/gr\\" in done.stdout
    done = shell("$KMS run --poll x; $KMS", home=tmp_path, **named)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"error: --poll: seconds from" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["get --unknown", "exec", "enrol", ""])
def test_usage_is_never_taken_for_a_value(tmp_path: Path, words: str) -> None:
    """With standard error closed it went to standard output."""
    done = shell(f"$KMS {words} 2>&-", home=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")


def test_an_interruption_is_an_exit_code(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, threading, kmsruntime.__main__ as program\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "program.main()"
    )
    words = [sys.executable, "-c", program, "enrol", "--dir", str(tmp_path / "kms"), *ADDRESSES]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(20)) == (b"", 130)


def test_who_is_not_enrolled_is_told_one_thing(tmp_path: Path) -> None:
    """ "What this container holds stays usable", and that it holds no enrolment."""
    home = enrolled_by_hand(tmp_path / ".kms-runtime")
    for path in (home.handover, home.environment, home.atom):
        path.unlink()
        done = shell("$KMS sync", home=tmp_path)
        expected = 67 if path != home.handover else 70
        assert done.returncode == expected, done.stderr
        assert expected == 70 or done.stderr.count(b"\n") == 1, done.stderr


def test_what_went_wrong_is_never_taken_for_a_value(tmp_path: Path) -> None:
    """With standard error closed it went to standard output, into `v=$(kms-runtime get …)`."""
    command = f"{sys.executable} -m kmsruntime get --dir {tmp_path} Orders/password 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert done.stdout == ""
