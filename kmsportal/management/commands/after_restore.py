"""`manage.py after_restore`: make database and vault agree after a backup was put back."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts import audit, memory
from accounts.models import Account
from accounts.rows import RowTampered
from extensions.actions import StaleRevision
from extensions.restoring import publish_extensions, to_enter_again
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultError
from kmsportal.backups import record, restored
from vaults.hosted import calls
from vaults.hosted.sessions import use_credentials
from vaults.keys.shred import shred_again
from vaults.logins import watch
from vaults.models import KmsAccount
from vaults.restore import account as account_restore
from vaults.restore import logins as login_restore
from vaults.restore.account import Restore
from vaults.restore.logins import VaultLogins

SHOWN = 50
NO_ROLE = """\
environments and Atoms without a role in the vault: {}. Since the backup the Key Management Service was disabled, or they were
  deleted. Nobody gets in by them. To let their containers in again, disable the Key Management Service and enable it again."""


class Command(BaseCommand):
    help = "After a restore: mark what the vault has no more, raise every revision, make missing keys and roles again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--credentials",
            required=True,
            type=Path,
            metavar="DIR",
            help="where the directories web and worker are: this one command needs both, so an operator runs it, once",
        )
        parser.add_argument("--restore", metavar="NAME", help="a name for a restore that was done by other means")
        parser.add_argument(
            "--only", choices=("database", "vault"), help="what was put back, with --restore; else both"
        )
        parser.add_argument(
            "--above", type=int, default=account_restore.JUMP, metavar="N", help="how far to raise revisions"
        )
        parser.add_argument("--adopt", action="store_true", help="take over logins that nodes renewed since the backup")
        parser.add_argument(
            "--from", type=Path, metavar="DIR", dest="source", help="the backup: compare audit logs with it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        restore = self._which(options)
        use_credentials([options["credentials"] / name for name in ("web", "worker", "watch")])
        if restore.database:
            memory.forget()  # its rows are those of an earlier day, on the operator's word
        try:
            self._all(restore, adopt=options["adopt"])
            if options["source"]:
                self._compare_audit(options["source"])
        except VaultError as error:
            raise CommandError(f"{error.sentence} Mend that and start again: what is done stays done.") from None
        except (RowTampered, StaleRevision, Refused, record.BackupBroken) as error:
            raise CommandError(str(error)) from None
        finally:
            use_credentials(())

    def _which(self, options: dict[str, Any]) -> Restore:
        now, only = datetime.now(UTC), options["only"]
        if options["restore"]:
            return Restore(options["restore"], only != "vault", only != "database", now, now, options["above"])
        found = restored.noted(settings.VAR)
        if found is None:
            raise CommandError(
                "No restore is noted here. Give it a name: --restore NAME, and the same again to go on with it."
            )
        return dataclasses.replace(found, jump=options["above"])

    def _all(self, restore: Restore, *, adopt: bool) -> None:
        accounts = list(Account.objects.select_related("kms").exclude(kms=None).order_by("code"))
        for account in accounts:
            self._account(account, restore)
        found = login_restore.listed()
        roles = set(calls.roles("environments")) | set(calls.roles("atoms"))
        for account in accounts:
            self._logins(account, found, restore, adopt=adopt)
            without = account_restore.without_role(account, roles)
            if without:
                self._say(account, NO_ROLE.format(without))
        look = watch.scan()
        if look is not None:
            self.stdout.write(
                f"Logins that were taken back and destroyed again: {look.destroyed}. New alarms: {len(look.alarms)}."
            )
        if restore.database:
            self.stdout.write(
                f"What was revoked, detached or removed between {restore.taken_at:%Y-%m-%d %H:%M} UTC and the restore is"
                " not known here: go through the nodes, members and tokens of each account."
            )

    def _account(self, account: Account, restore: Restore) -> None:
        if account.kms.verified().state == KmsAccount.State.SHREDDED:
            self._shred_again(account, restore)
            return
        missing = account_restore.provision_again(account, restore)
        compared = account_restore.compare_data_keys(account)
        self._say(account, f"data keys missing in the vault: {compared.lost}; there again: {compared.found}.")
        if missing:
            self._say(
                account,
                f"environments and Atoms without a key in the vault, because they were shredded or deleted: {len(missing)}.",
            )
        if not KmsAccount.is_active(account):
            self._say(account, "disabled: nothing can be sealed. Run this again once it is enabled.")
            return
        anew = account_restore.publish_settings(account, restore, missing)
        published = publish_extensions(account, restore, compared.changed, missing)
        for environment, revision in published:
            self._say(account, f"{environment.name} is revision {revision} now.")
        if anew.sealed:
            self._say(account, f"KMS settings sealed anew, of Atoms: {len(anew.sealed)}.")
        for atom in anew.upload_again:
            self._say(account, f"upload the properties file of {atom.name} again: its key is lost.")
        names = to_enter_again(account)
        if names:
            self._say(account, f"values to be entered again, all on the re-entry worklist: {len(names)}.")
        for name in names[:SHOWN]:
            self.stdout.write(f"  {name}")
        if len(names) > SHOWN:
            self.stdout.write(f"  and {len(names) - SHOWN} more")

    def _shred_again(self, account: Account, restore: Restore) -> None:
        if not restore.vault or account_restore.done_before(account, restore, "RESTORE_SHRED"):
            return
        try:
            shred_again(account)
        except Refused as refused:
            self._say(account, refused.sentence)
            return
        account_restore.record_step(
            account, restore, "RESTORE_SHRED", "Shredded keys may be back; asked to shred again"
        )
        self._say(account, "its keys were shredded and may be back: start the shred worker.")

    def _logins(self, account: Account, found: VaultLogins, restore: Restore, *, adopt: bool) -> None:
        for node in login_restore.cut_off_since(account, found, restore):
            self._say(account, f"{node} of {node.atom.name} was cut off after the backup; it is revoked again.")
        if adopt:
            self._say(account, f"logins adopted: {len(login_restore.adopt(account, found, restore))}.")

    def _compare_audit(self, source: Path) -> None:
        for code, (seq, kept) in sorted(record.read(source).audit.items()):
            account = Account.objects.filter(code=code).first()
            found = audit.fingerprint(account, seq) if account is not None and seq else kept
            broken = audit.first_broken(account) if account is not None else None
            word = "goes on from the backup's" if found == kept and account is not None else "IS NOT THE BACKUP'S"
            self.stdout.write(
                f"{code}: the audit log {word}, entry {seq} {kept}." + (f" Broken at {broken}." if broken else "")
            )

    def _say(self, account: Account, text: str) -> None:
        self.stdout.write(f"{account.code}: {text}")
