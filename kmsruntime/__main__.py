"""The command line: reads options, calls one function, turns every problem into one line and an exit code.

Modules that talk to servers are imported by the commands that need them: `get` and `exec` start in a fraction of a second.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kmsruntime import VERSION
from kmsruntime.disk.home import DEFAULT, Home
from kmsruntime.errors import (
    EXIT_CODES,
    CommandNotExecutable,
    CommandNotFound,
    EnrolmentRefused,
    RuntimeProblem,
    SelectionRefused,
    ValueMissing,
    printable,
    unforeseen,
)

if TYPE_CHECKING:
    from kmsruntime.store.format import Header, Store
    from kmsruntime.store.keys import KeySource

app = typer.Typer(
    name="kms-runtime",
    help="Fetches the secrets of an Atom, keeps them sealed and gives them to programs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables
    rich_markup_mode=None,
)

Directory = Annotated[
    Path, typer.Option("--dir", envvar="KMS_RUNTIME_DIR", help="Where this container keeps its files.")
]
_TOKEN_CHARACTERS = 512


@app.command()
def enrol(
    portal: Annotated[str, typer.Option(help="Address of the portal.")],
    vault: Annotated[str, typer.Option(help="Address of the hosted vault.")],
    directory: Directory = DEFAULT,
    portal_ca: Annotated[Path | None, typer.Option(help="CA certificates of the portal (PEM).")] = None,
    vault_ca: Annotated[Path | None, typer.Option(help="CA certificates of the vault (PEM).")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Where the at-rest key is kept, on a tmpfs perhaps.")] = None,
    allow_vault: Annotated[list[str] | None, typer.Option(help="As allow-vault ADDRESS.")] = None,
    allow_env: Annotated[list[str] | None, typer.Option(help="As allow-vault --allow-env NAME.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the portal at most.")] = 600.0,
) -> None:
    """Enrol this container; the installer token is read from standard input."""
    from kmsruntime.disk.home import Config
    from kmsruntime.enrolment.enrol import enrol as enrol_container
    from kmsruntime.keysource.allowlist import allowing
    from kmsruntime.remote.addresses import checked_address, checked_ca

    config = Config(
        checked_address("--portal", portal),
        checked_address("--vault", vault),
        checked_ca("--portal-ca", portal_ca),
        checked_ca("--vault-ca", vault_ca),
        str(key_file.expanduser().absolute()) if key_file else "",
    )
    config = allowing(config, allow_vault or [], allow_env or [])
    atom = enrol_container(Home(directory), config, _installer_token(), _patience(wait))
    say(f"Enrolled as a node of {atom.atom_name} ({atom.account_code}). Next: kms-runtime run")


@app.command()
def sync(
    directory: Directory = DEFAULT,
    accept_restore: Annotated[
        bool, typer.Option("--accept-restore", help="Take an older revision, this once.")
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for new vault credentials at most.")] = 120.0,
) -> None:
    """Fetch what changed, once."""
    from kmsruntime.sync import Synchroniser

    # A switch that is pending says so itself.
    synchroniser = Synchroniser(Home(directory), _patience(wait), say)
    say(synchroniser.sync(accept_restore=accept_restore).sentence)
    synchroniser.self_check.run_if_due()


@app.command()
def run(
    directory: Directory = DEFAULT,
    poll: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two looks at the portal.")] = 5.0,
) -> None:
    """Keep this container up to date until it is told to stop."""
    from kmsruntime.daemon import Daemon

    Daemon(Home(directory), say, poll).run()


@app.command()
def get(
    connection: Annotated[str, typer.Argument(help="The connection's name or id.")] = "",
    field: Annotated[str, typer.Argument(help="The field's id.")] = "",
    directory: Directory = DEFAULT,
    name: Annotated[str, typer.Option("--property", help="A process property instead of a connection's field.")] = "",
) -> None:
    """Print one value; a line end is added on a terminal only."""
    from kmsruntime.environment import find, value_of

    if bool(name) == bool(connection and field) or bool(connection) != bool(field):
        raise SelectionRefused("selection_invalid", "Name a CONNECTION and a FIELD, or --property NAME.")
    store = _store(Home(directory))
    value = value_of(store, find(store, f"property/{name}" if name else f"{connection}/{field}"))
    sys.stdout.buffer.write(value + (b"\n" if sys.stdout.isatty() else b""))
    sys.stdout.buffer.flush()


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec_(
    command: Annotated[list[str], typer.Argument(help="The program and its arguments, after --.")],
    directory: Directory = DEFAULT,
    mapped: Annotated[
        list[str] | None, typer.Option("--map", help="ENVNAME=Connection/field, again and again.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Give only this connection, Connection/field or property.")
    ] = None,
) -> None:
    """Run a program with the values in its environment (CONNECTION_FIELD), and become it."""
    from kmsruntime.environment import gifts, parsed_map

    store = _store(Home(directory))
    given = gifts(store, [parsed_map(text) for text in mapped or []], only or [], os.environ, say)
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


@app.command()
def status(
    directory: Directory = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; lists the names of all entries.")] = False,
) -> None:
    """Show what this container holds, how old it is, and what is wrong."""
    import json

    from kmsruntime.status.screen import gather, screen

    found = gather(Home(directory))
    typer.echo(json.dumps(found, indent=2) if as_json else screen(found))  # json: ASCII, every name escaped


@app.command()
def check(
    directory: Directory = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check your own vault as the newest KMS settings name it, step by step; changes nothing."""
    import json

    from kmsruntime.keysource.check import checkup

    found = checkup(Home(directory))
    typer.echo(json.dumps(found.document(), indent=2) if as_json else found.screen())
    if found.problem is not None:
        raise found.problem


@app.command("allow-vault")
def allow_vault_(
    addresses: Annotated[list[str] | None, typer.Argument(metavar="ADDRESS…", help="https://host:port")] = None,
    directory: Directory = DEFAULT,
    allow_env: Annotated[
        list[str] | None, typer.Option(help="A variable that a properties file may ask for, besides the three usual.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="An address or a variable to allow no more.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only show what is allowed.")] = False,
) -> None:
    """Name your own vault on this container: only there may be used what is held here (a token in a variable, a key store)."""
    from kmsruntime.keysource.allowlist import allowing, listing, removing

    home = Home(directory)
    config = home.read_config()
    if not listed:
        with home.lock():
            config = allowing(removing(home.read_config(), remove or []), addresses or [], allow_env or [])
            home.write_config(config)
    for line in listing(config):
        typer.echo(line)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(VERSION)


def say(line: str) -> None:
    """One line to standard error, with the time; whatever names are in it, it stays one line."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{moment} kms-runtime: {printable(line)}", file=sys.stderr, flush=True)


def main() -> NoReturn:
    """The console script. Every RuntimeProblem is one line and its exit code; no text of another exception is shown."""
    try:
        app()
    except RuntimeProblem as problem:
        print(f"kms-runtime: {printable(problem.sentence)} [{printable(problem.code)}]", file=sys.stderr)
        sys.exit(problem.exit_code)
    except Exception as error:  # noqa: BLE001 the text of an unforeseen exception could hold a value
        print(f"kms-runtime: {unforeseen(error)}", file=sys.stderr)
        sys.exit(EXIT_CODES["unexpected"])
    sys.exit(0)


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
    from kmsruntime.keysource.check import parts

    return parts(home)[1].of(header.settings_revision)


def _explained(home: Home, problem: RuntimeProblem) -> RuntimeProblem:
    if not problem.kind.startswith("customer_vault_"):
        return problem  # without loading what talks to vaults
    from kmsruntime.keysource.check import explained

    return explained(home, problem)


def _installer_token() -> str:
    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass("Installer token: ")
    else:
        text = sys.stdin.read(_TOKEN_CHARACTERS + 1)
    token = text.strip()
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
