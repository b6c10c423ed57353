"""The commands: each is one function; every problem is one line and an exit code. What they take is in options.py.

Modules that talk to servers are imported by the commands that need them: `get` and `exec` start in a fraction of a second.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from kmsruntime import VERSION
from kmsruntime.disk.home import Home
from kmsruntime.disk.place import settled
from kmsruntime.disk.rights import refuse_another
from kmsruntime.errors import (
    EXIT_CODES,
    CommandNotExecutable,
    CommandNotFound,
    EnrolmentRefused,
    RuntimeProblem,
    SelectionRefused,
    ValueMissing,
    describe_unexpected,
    printable,
)
from kmsruntime.options import Command, build_parser
from kmsruntime.output import complain, put, put_line, say

if TYPE_CHECKING:
    from kmsruntime.store.format import Header, Store
    from kmsruntime.store.keys import KeySource

_TOKEN_CHARACTERS: Final = 512


# -- commands ----------------------------------------------------------------------------------------------------------


def enrol(options: argparse.Namespace) -> None:
    """Enrol this container; the installer token is read from standard input."""
    from kmsruntime.disk.home import Config
    from kmsruntime.enrolment.enrol import enrol as enrol_container
    from kmsruntime.keysource.allowlist import allow
    from kmsruntime.remote.addresses import checked_address, checked_ca, checked_key_file

    config = Config(
        checked_address("--portal", options.portal),
        checked_address("--vault", options.vault),
        checked_ca("--portal-ca", options.portal_ca),
        checked_ca("--vault-ca", options.vault_ca),
        checked_key_file("--key-file", options.key_file),
    )
    config = allow(config, options.allow_vault, options.allow_env)
    atom = enrol_container(Home(options.directory), config, _installer_token(), _patience(options.wait))
    say(f"Enrolled as a node of {atom.atom_name} ({atom.account_code}). Next: kms-runtime run")


def sync(options: argparse.Namespace) -> None:
    """Fetch what changed, once."""
    from kmsruntime.container import Container
    from kmsruntime.sync import Synchroniser

    # A switch that is pending says so itself.
    synchroniser = Synchroniser(Container(Home(options.directory)), _patience(options.wait), say)
    say(synchroniser.sync(accept_restore=options.accept_restore).sentence)
    synchroniser.self_check.run_if_due()


def run(options: argparse.Namespace) -> None:
    """Keep this container up to date until it is told to stop."""
    from kmsruntime.daemon import Daemon

    Daemon(Home(options.directory), say, options.poll).run()


def get(options: argparse.Namespace) -> None:
    """Print one value; a line end is added on a terminal only."""
    from kmsruntime.environment import find, value_of

    connection, field, name = options.connection, options.field, options.property
    if bool(name) == bool(connection and field) or bool(connection) != bool(field):
        raise SelectionRefused("selection_invalid", "Name a CONNECTION and a FIELD, or --property NAME.")
    store = _store(Home(options.directory))
    value = value_of(store, find(store, f"property/{name}" if name else f"{connection}/{field}"))
    put(value + (b"\n" if sys.stdout and sys.stdout.isatty() else b""))


def exec_(options: argparse.Namespace) -> None:
    """Run a program with the values in its environment (CONNECTION_FIELD), and become it."""
    from kmsruntime.environment import parsed_map, variables

    command = options.command[1:] if options.command[0] == "--" else options.command
    if not command[0]:
        raise CommandNotFound("command_not_found", "The program to run has an empty name.")
    refuse_another(options.directory)
    store = _store(Home(options.directory))
    given = variables(store, [parsed_map(text) for text in options.map], options.only, os.environ, say)
    environment = dict(os.environb) | {gift.name.encode(): gift.value for gift in given}
    # What Python changed for itself is put back: the program gets the signals its parent meant for it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 no shell is wanted
    except FileNotFoundError:
        raise CommandNotFound("command_not_found", f"There is no program {command[0]!r}.") from None
    except OSError as error:
        raise CommandNotExecutable(
            "command_not_executable", f"{command[0]!r} cannot be run: {error.strerror}."
        ) from None


def status(options: argparse.Namespace) -> None:
    """Show what this container holds, how old it is, and what is wrong."""
    import json

    from kmsruntime.status.screen import gather, screen

    found = gather(Home(options.directory))
    put_line(json.dumps(found, indent=2) if options.json else screen(found))  # json: ASCII, every name escaped


def check(options: argparse.Namespace) -> None:
    """Check your own vault as the newest KMS settings name it, step by step; changes nothing."""
    import json

    from kmsruntime.container import Container
    from kmsruntime.keysource.check import check

    found = check(Container(Home(options.directory)))
    put_line(json.dumps(found.document(), indent=2) if options.json else found.screen())
    if found.problem is not None:
        raise found.problem


def readers(options: argparse.Namespace) -> None:
    """Show who can read what this container can, as the hosted vault lists it."""
    import json

    from kmsruntime.container import Container
    from kmsruntime.status.readers import readers

    found = readers(Container(Home(options.directory)))
    put_line(json.dumps(found.document(), indent=2) if options.json else found.screen())
    if found.problem is not None:
        raise found.problem


def allow_vault(options: argparse.Namespace) -> None:
    """Name your own vault on this container: only there may be used what is held here (a token in a variable, a key store)."""
    from kmsruntime.keysource.allowlist import allow, disallow, lines

    home = Home(options.directory)
    config = home.read_config()
    if not options.list:
        with home.lock():
            config = allow(disallow(home.read_config(), options.remove), options.addresses, options.allow_env)
            home.write_config(config)
    for line in lines(config):
        put_line(printable(line))  # the directory's owner wrote what is listed


def version(options: argparse.Namespace) -> None:
    """Print the version."""
    put_line(VERSION)


COMMANDS: Final[Mapping[str, Command]] = {
    "enrol": enrol,
    "sync": sync,
    "run": run,
    "get": get,
    "exec": exec_,
    "status": status,
    "check": check,
    "readers": readers,
    "allow-vault": allow_vault,
    "version": version,
}


# -- running them ------------------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """The console script. Every RuntimeProblem is one line and its exit code; no text of another exception is shown."""
    code = 0
    try:
        _run()
    except RuntimeProblem as problem:
        complain(f"kms-runtime: {printable(problem.sentence)} [{printable(problem.code)}]")
        code = problem.exit_code
    except KeyboardInterrupt:
        code = EXIT_CODES["interrupted"]
    except Exception as error:  # noqa: BLE001 the text of an unforeseen exception could hold a value
        complain(f"kms-runtime: {describe_unexpected(error)}")
        code = EXIT_CODES["unexpected"]
    sys.exit(code)


def _run() -> None:
    parser = build_parser(COMMANDS)
    if not sys.argv[1:]:
        complain(parser.format_help().rstrip())
        sys.exit(EXIT_CODES["usage"])
    options = parser.parse_args()
    if "directory" in options:
        options.directory = settled(options.directory)
    options.function(options)


def _store(home: Home) -> Store:
    from kmsruntime.store.file import StoreFile

    try:
        store = StoreFile(home, home.read_config(), lambda header: _key_source(home, header)).read()
    except RuntimeProblem as problem:
        raise _explained(home, problem) from None
    if store is None or not store.header.environment:
        raise ValueMissing(
            "nothing_held", "This container holds no values: run kms-runtime sync, and see kms-runtime status."
        )
    return store


def _key_source(home: Home, header: Header) -> KeySource:
    from kmsruntime.container import Container

    return Container(home).sources.of(header.settings_revision)


def _explained(home: Home, problem: RuntimeProblem) -> RuntimeProblem:
    if not problem.kind.startswith("customer_vault_"):
        return problem  # without loading what talks to vaults
    from kmsruntime.container import Container
    from kmsruntime.keysource.check import explained

    return explained(Container(home), problem)


def _installer_token() -> str:
    token = ""
    with suppress(OSError, EOFError, UnicodeDecodeError):
        if sys.stdin is not None and sys.stdin.isatty():
            import getpass

            token = getpass.getpass("Installer token: ").strip()
        elif sys.stdin is not None:  # None: it was closed
            token = sys.stdin.buffer.read(_TOKEN_CHARACTERS + 1).decode().strip()
    if not token or len(token) > _TOKEN_CHARACTERS or not token.isascii() or any(c.isspace() for c in token):
        raise EnrolmentRefused(
            "installer_token_unreadable", "Standard input must hold the installer token and nothing else."
        )
    return token


def _patience(seconds: float) -> Callable[[float], bool]:
    """Waits as asked until the time is up in total, and says so once."""
    deadline, told = time.monotonic() + seconds, False

    def wait(pause: float) -> bool:
        nonlocal told
        if time.monotonic() + pause > deadline:
            return False
        if not told:
            say("Waiting for the portal to hand over the credentials.")
            told = True
        time.sleep(pause)
        return True

    return wait


if __name__ == "__main__":
    main()
