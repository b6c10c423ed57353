"""What the command line takes: the commands' options and arguments, and what is said when they are wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from kmsruntime import VERSION
from kmsruntime.disk.home import DEFAULT
from kmsruntime.errors import EXIT_CODES, printable
from kmsruntime.output import complain, put_line

Command = Callable[[argparse.Namespace], None]

_POLL_SECONDS: Final = (0.5, 3600.0)  # least and most between two questions to the portal
_WAIT_SECONDS: Final = (0.0, 366 * 86400.0)
_FROM_INPUT: Final = "the installer token is read from standard input and is no argument"


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The whole command line. What a command's function says of itself is its help; the options come with it as `function`."""
    parser = _Parser(
        prog="kms-runtime",
        description="Fetches the secrets of an Atom, keeps them sealed and gives them to programs.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=VERSION, help="Print the version.")
    added = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, function in commands.items():
        text = function.__doc__
        command = added.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(function=function)
        for add_options in _OPTIONS[name]:
            add_options(command)
    return parser


def _directory_option(parser: _Parser) -> None:
    chosen = Path(os.environ.get("KMS_RUNTIME_DIR") or DEFAULT)
    now = printable(str(chosen)).replace("%", "%%")  # argparse fills in what follows one
    text = f"Where this container keeps its files (KMS_RUNTIME_DIR; now {now})."
    parser.add_argument("--dir", dest="directory", type=_path, metavar="DIR", default=chosen, help=text)


def _enrol_options(parser: _Parser) -> None:
    parser.surplus = f"{_FROM_INPUT}; {_Parser.surplus}"
    parser.add_argument("--portal", metavar="ADDRESS", required=True, help="Address of the portal.")
    parser.add_argument("--vault", metavar="ADDRESS", required=True, help="Address of the hosted vault.")
    parser.add_argument("--portal-ca", type=_path, metavar="FILE", help="CA certificates of the portal (PEM).")
    parser.add_argument("--vault-ca", type=_path, metavar="FILE", help="CA certificates of the vault (PEM).")
    text = "Where the at-rest key is kept, on a tmpfs perhaps."
    parser.add_argument("--key-file", type=_path, metavar="FILE", help=text)
    _repeated(parser, "--allow-vault", "ADDRESS", "As allow-vault ADDRESS.")
    _repeated(parser, "--allow-env", "NAME", "As allow-vault --allow-env NAME.")
    text = "Seconds to wait for the portal at most (600)."
    parser.add_argument("--wait", type=_seconds(*_WAIT_SECONDS), metavar="SECONDS", default=600.0, help=text)


def _sync_options(parser: _Parser) -> None:
    parser.add_argument("--accept-restore", action="store_true", help="Take an older revision, this once.")
    text = "Seconds to wait for new vault credentials at most (120)."
    parser.add_argument("--wait", type=_seconds(*_WAIT_SECONDS), metavar="SECONDS", default=120.0, help=text)


def _run_options(parser: _Parser) -> None:
    text = "Between two questions (5)."
    parser.add_argument("--poll", type=_seconds(*_POLL_SECONDS), metavar="SECONDS", default=5.0, help=text)


def _get_options(parser: _Parser) -> None:
    parser.intermixed = True
    parser.add_argument("connection", metavar="CONNECTION", nargs="?", default="", help="The connection's name or id.")
    parser.add_argument("field", metavar="FIELD", nargs="?", default="", help="The field's id.")
    text = "A process property instead of a connection's field."
    parser.add_argument("--property", metavar="NAME", default="", help=text)


def _exec_options(parser: _Parser) -> None:
    _repeated(parser, "--map", "ENVNAME=PATH", "ENVNAME=Connection/field, again and again.")
    _repeated(parser, "--only", "NAME", "Give only this connection, Connection/field or property.")
    text = "The program and its arguments, after --."
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, action=_Program, help=text)


def _shown_options(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="For programs.")


def _allow_vault_options(parser: _Parser) -> None:
    parser.intermixed = True
    parser.add_argument("addresses", metavar="ADDRESS", nargs="*", help="https://host:port")
    text = "A variable that a properties file may ask for, besides the three usual."
    _repeated(parser, "--allow-env", "NAME", text)
    _repeated(parser, "--remove", "NAME", "An address or a variable to allow no more.")
    parser.add_argument("--list", action="store_true", help="Only show what is allowed.")


def _repeated(parser: _Parser, option: str, metavar: str, text: str) -> None:
    parser.add_argument(option, action="append", default=[], metavar=metavar, help=text)


class _Program(argparse.Action):
    """The rest of the line, which has to name a program: argparse lets nothing at all pass."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        if not values or list(values) == ["--"]:
            raise argparse.ArgumentError(self, "expected a program to run: kms-runtime exec -- PROGRAM")
        setattr(namespace, self.dest, values)


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        with suppress(ValueError):
            seconds = float(text)
            if least <= seconds <= most:
                return seconds
        raise _Unsuitable(f"seconds from {least:g} to {most:.0f} are wanted")

    return read


def _path(text: str) -> Path:
    if not text:
        raise _Unsuitable("a path is wanted; leave the option out for none")
    return Path(text)


_OPTIONS: Final[Mapping[str, Sequence[Callable[[_Parser], None]]]] = {
    "enrol": (_directory_option, _enrol_options),
    "sync": (_directory_option, _sync_options),
    "run": (_directory_option, _run_options),
    "get": (_directory_option, _get_options),
    "exec": (_directory_option, _exec_options),
    "status": (_directory_option, _shown_options),
    "check": (_directory_option, _shown_options),
    "readers": (_directory_option, _shown_options),
    "allow-vault": (_directory_option, _allow_vault_options),
    "version": (),
}


class _Parser(argparse.ArgumentParser):
    """Its errors name options and never quote what was typed: a token among the arguments must not end in a journal."""

    surplus = "there are arguments or options that it does not take"
    intermixed = False  # whether options may stand between its arguments, which argparse does not allow by itself
    _stepping = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.intermixed and not self._stepping and "--" not in args:
            self._stepping = True  # it comes here twice more: for the options, then for the arguments
            try:
                found, surplus = self.parse_known_intermixed_args(args, namespace)
            finally:
                self._stepping = False
        else:
            found, surplus = super().parse_known_args(args, namespace)
        if surplus and not self._stepping:
            self.error(self.surplus)
        return found, surplus

    def error(self, message: str) -> NoReturn:
        found = sys.exc_info()[1]
        if isinstance(found, argparse.ArgumentError):
            message = f"{found.argument_name or 'an argument'}: {_why(found)}"
        elif not message.startswith("the following arguments are required: "):
            message = self.surplus
        complain(f"{self.format_usage()}{self.prog}: error: {message}; see {self.prog} --help")
        sys.exit(EXIT_CODES["usage"])

    def _print_message(self, message: str, file: object = None) -> None:
        """Of --help and --version, which are all that comes here."""
        put_line(message.removesuffix("\n"))


class _Unsuitable(argparse.ArgumentTypeError):
    """Says what is wanted, and not what came."""


def _why(found: argparse.ArgumentError) -> str:
    if isinstance(found.__context__, _Unsuitable):
        return str(found.__context__)
    return found.message if found.message.startswith("expected ") else "what is given here is not understood"
