"""`manage.py install_vault`: the layout and the credentials files in a Vault or OpenBao that somebody else runs.

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

from kmscore.vaultclient.answers import VaultError, VaultRefused
from kmscore.vaultclient.client import Vault
from vaults.hosted import layout
from vaults.hosted.credentials import FILES, install_file
from vaults.hosted.hvac_client import client_of


class Command(BaseCommand):
    help = "Install or repair the portal's layout in a Vault or OpenBao and write the credentials files (0600)."
    requires_system_checks: list[str] = []  # it runs before there is a database

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--address", required=True, help="the vault, for example https://vault.example.org:8200")
        parser.add_argument("--credentials", required=True, type=Path, metavar="DIR", help="where the files go")
        token = parser.add_mutually_exclusive_group()
        token.add_argument(
            "--token",
            help="a token that may do everything; '-' reads standard input, which no other user can see",
        )
        token.add_argument("--token-file", type=Path, help="a file holding the token; without both, you are asked")
        parser.add_argument("--ca", metavar="FILE", help="certificates to trust, PEM")
        parser.add_argument(
            "--rotate-credentials", action="store_true", help="make new credentials, destroy the old ones"
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
            for name in FILES:
                self.stdout.write(install_file(client, directory / name, renew=options["rotate_credentials"]))
        except VaultError as error:
            raise CommandError(error.sentence) from None
        except OSError as error:
            raise CommandError(f"{error.filename or directory}: {error.strerror}.") from None


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
