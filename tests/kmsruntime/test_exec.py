"""exec and get as programs see them: environment, exit code, signals, and nothing else changed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kmsruntime.container import Container, save
from tests.live import ROOT

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def holding(enrolled: Container) -> Container:
    save(enrolled.stage, {"region": "eu"}, password="line one\nline two ü\n", user="orders")
    enrolled.sync()
    return enrolled


def test_get_prints_the_bytes_and_nothing_else(holding: Container) -> None:
    assert holding.command("get", "Orders database", "password").stdout == "line one\nline two ü\n"
    assert holding.command("get", "--property", "region").stdout == "eu"


def test_get_ends_the_line_on_a_terminal(holding: Container) -> None:
    controller, terminal = pty.openpty()
    words = holding.words("get", "--property", "region")
    subprocess.run(words, stdout=terminal, env=holding.environment(), cwd=ROOT, check=True, timeout=20)
    os.close(terminal)
    assert os.read(controller, 100) == b"eu\r\n"
    os.close(controller)


@pytest.mark.parametrize("words", [(), ("Orders database",), ("a", "b", "--property", "c")])
def test_get_wants_one_name(holding: Container, words: tuple[str, ...]) -> None:
    done = holding.command("get", *words)
    assert (done.returncode, "[selection_invalid]" in done.stderr) == (2, True)


def test_get_refuses_a_missing_value(holding: Container) -> None:
    done = holding.command("get", "Orders database", "apiKey")
    assert (done.returncode, done.stdout, "[value_missing]" in done.stderr) == (79, "", True)


def test_the_child_has_the_values_in_its_environment_only(holding: Container) -> None:
    program = "import os, sys; print(os.environ['ORDERS_DATABASE_PASSWORD'], sys.argv, sep='|', end='')"
    done = holding.command("exec", "--", sys.executable, "-c", program, "--dir", "x")
    assert done.stdout == "line one\nline two ü\n|['-c', '--dir', 'x']"
    assert "ORDERS_DATABASE_APIKEY" not in holding.command("exec", "--", "env").stdout
    assert "Orders database/apiKey is missing, nobody has entered it in the portal: left out." in done.stderr


def test_the_exit_code_is_the_childs(holding: Container) -> None:
    assert holding.command("exec", "--", "sh", "-c", "exit 37").returncode == 37


def test_the_program_becomes_the_child_so_signals_reach_it(holding: Container) -> None:
    script = "trap 'exit 12' TERM; echo $$; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        holding.words("exec", "--", "sh", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=holding.environment(),
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 12
    process.stdout.close()


def test_a_pipe_that_closes_ends_the_child_quietly(holding: Container) -> None:
    script = 'env | head -c 1 >/dev/null; trap - PIPE; (kill -s PIPE $$) ; echo "still here"'
    assert holding.command("exec", "--", "sh", "-c", script).returncode == -signal.SIGPIPE


def test_map_and_only(holding: Container) -> None:
    words = ("--map", "PGPASSWORD=Orders database/password", "--only", "property/region", "--", "env")
    found = holding.command("exec", *words, env={"PATH": os.environ["PATH"]}).stdout
    names = {line.partition("=")[0] for line in found.splitlines() if "=" in line}
    assert names - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == {"PATH", "PGPASSWORD", "PROPERTY_REGION"}


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (("--", "/nonexistent/program"), 127, "command_not_found"),
        (("--", "no-such-program-anywhere"), 127, "command_not_found"),
        (("--", "/etc/passwd"), 126, "command_not_executable"),
        (("--map", "X=Orders database/nothing", "--", "true"), 79, "value_missing"),
        (("--map", "X", "--", "true"), 2, "map_invalid"),
    ],
)
def test_what_cannot_be_run_is_one_line(holding: Container, words: tuple[str, ...], code: int, name: str) -> None:
    done = holding.command("exec", *words)
    assert (done.returncode, f"[{name}]" in done.stderr.splitlines()[-1]) == (code, True), done.stderr


def test_an_environment_name_that_is_taken_is_not_overwritten(holding: Container) -> None:
    done = holding.command("exec", "--", "true", env=holding.environment(ORDERS_DATABASE_USER="mine"))
    assert (done.returncode, "[name_reserved]" in done.stderr) == (80, True)


def test_no_value_is_ever_on_a_command_line(holding: Container) -> None:
    process = subprocess.Popen(holding.words("exec", "--", "sleep", "5"), cwd=ROOT, env=holding.environment())
    try:
        deadline = time.monotonic() + 5
        line = b""
        while b"sleep" not in line.split(b"\0")[0] and time.monotonic() < deadline:
            time.sleep(0.05)
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert line == b"sleep\x005\x00"
    finally:
        process.kill()
        process.wait()


def test_exec_loads_nothing_that_talks_to_servers_and_no_framework() -> None:
    """Every program of a container waits for these imports."""
    script = "import sys, kmsruntime.__main__, kmsruntime.environment, kmsruntime.store.file; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint(
        {"typer", "click", "rich", "pydantic", "hvac", "requests", "urllib3", "ssl", "yaml", "django"}
    )
