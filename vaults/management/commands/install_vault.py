"""`manage.py install_vault`: the layout in a Vault or OpenBao that somebody else runs, and what each process holds: credentials
for that vault, and keys to sign with.

Prints what was done, never a token, an id or a key. Every failure is one line.
"""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from hvac import Client

from accounts.keyring import PROCESSES, KeyringBroken
from kmscore.vaultclient.answers import VaultError, VaultRefused
from kmscore.vaultclient.client import Vault
from vaults.hosted import layout
from vaults.hosted.credentials import HELD, install_credentials, renew_credentials
from vaults.hosted.hvac_client import client_of
from vaults.hosted.signing_keys import PRIVATE_FILE, Change, KeysRefused, install_keys

STEPS = {
    "--new-key": ("list_new", "list a new signing key of a process, which it will use later"),
    "--use-key": ("use_new", "have it sign with the new key; what the old one signed stays valid"),
    "--end-key": ("end_old", "end the old key, after manage.py resign"),
}


class Command(BaseCommand):
    help = "Install or repair the portal's layout in a Vault or OpenBao and write the credentials files (0600)."
    requires_system_checks: list[str] = []  # it runs before there is a database

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--address", required=True, help="the vault, for example https://vault.example.org:8200")
        parser.add_argument(
            "--credentials", required=True, type=Path, metavar="DIR", help="where each process's directory goes"
        )
        token = parser.add_mutually_exclusive_group()
        token.add_argument(
            "--token",
            help="a token that may do everything; '-' reads standard input, which no other user can see",
        )
        token.add_argument("--token-file", type=Path, help="a file holding the token; without both, you are asked")
        parser.add_argument("--ca", metavar="FILE", help="certificates to trust, PEM")
        parser.add_argument(
            "--rotate-credentials",
            action="store_true",
            help="make new credentials, destroy the old ones, on other machines too",
        )
        parser.add_argument(
            "--root-key", type=Path, metavar="FILE", help=f"the portal's root key; {PRIVATE_FILE} in DIR when left out"
        )
        parser.add_argument("--restored", action="store_true", help="an older snapshot of the vault was put back")
        keys = parser.add_mutually_exclusive_group()
        for option, (step, does) in STEPS.items():
            keys.add_argument(option, choices=PROCESSES, help=does, dest=step)
        keys.add_argument("--end-id", metavar="ID", help="end the listed key of this id, in whichever file it is")
        parser.add_argument(
            "--at-once", action="store_true", help="use a new key without waiting: the old one was stolen"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        ca = options["ca"]
        if ca and not Path(ca).is_file():
            raise CommandError(f"The CA file {ca} does not exist.")
        directory = _directory(options["credentials"])
        try:
            token = _token(options["token"], options["token_file"])
            client = client_of(Vault(options["address"], token=token, ca=ca))
            _check_token(client)
            layout.install(client)
            self.stdout.write(f"Layout {layout.LAYOUT_VERSION} is installed.")
            directories = [_directory(directory / name) for name in HELD]
            if options["rotate_credentials"]:
                lines = renew_credentials(client, directories)
            else:
                lines = [install_credentials(client, one) for one in directories]
            for line in lines:
                self.stdout.write(line)
            root_file = options["root_key"] or directory / PRIVATE_FILE
            change = _change(options)
            for line in install_keys(client, directory, root_file, change=change, restored=options["restored"]):
                self.stdout.write(line)
        except VaultError as error:
            raise CommandError(error.sentence) from None
        except (KeysRefused, KeyringBroken) as problem:
            raise CommandError(str(problem)) from None
        except OSError as error:
            raise CommandError(f"{error.filename or directory}: {error.strerror}.") from None


def _change(options: dict[str, Any]) -> Change | None:
    for step, _ in STEPS.values():
        if options[step]:
            return Change(options[step], step, options["at_once"])
    return Change("", "end_id", key_id=options["end_id"]) if options["end_id"] else None


def _token(token: str | None, file: Path | None) -> str:
    if file is not None:
        try:
            token = file.read_text()
        except (OSError, UnicodeDecodeError):
            raise CommandError(f"The token file {file} cannot be read.") from None
    elif token == "-" or (token is None and not sys.stdin.isatty()):  # noqa: S105
        token = sys.stdin.readline()
    elif token is None:
        token = getpass.getpass("Vault token: ")
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise CommandError("No usable token was given.")
    return token


def _check_token(client: Client) -> None:
    try:
        client.auth.token.lookup_self()
    except VaultRefused:
        raise CommandError("The vault does not accept this token.") from None


def _directory(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{directory} cannot be made: {error.strerror}.") from None
    return directory
