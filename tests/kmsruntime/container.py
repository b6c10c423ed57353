"""A container of the tests: a directory of its own, driven through the real command line or in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.utils import timezone

from atoms.actions import create_installer_token
from atoms.models import Atom
from extensions.actions import Saved, save_extensions
from extensions.models import ExtensionValue
from extensions.plan import FieldChange, PropertyChange
from extensions.secret import Secret
from kmscore.byov.customer import CustomerVault
from kmscore.byov.properties import facts_of
from kmsruntime.container import Container as Parts
from kmsruntime.disk.home import Home
from kmsruntime.store.file import StoreFile
from kmsruntime.sync import Outcome, Synchroniser
from tests.conftest import Stage
from tests.live import ROOT, LivePortal
from vaults.panel.settings import PropertiesUpload, save_kms_settings, settings_of, with_settings


@dataclass
class Container:
    """One machine. `home` is where it keeps its files."""

    portal: LivePortal
    directory: Path
    lines: list[str] = field(default_factory=list)

    @property
    def stage(self) -> Stage:
        found: Stage = self.portal.stage
        return found

    @property
    def home(self) -> Home:
        return Home(self.directory)

    def command(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `python -m kmsruntime` in this directory."""
        return subprocess.run(
            self.words(*words),
            capture_output=True,
            text=True,
            timeout=90,
            cwd=ROOT,
            check=False,
            **({"env": self.environment()} | options),
        )

    def words(self, *words: str) -> list[str]:
        name, *rest = words
        return [sys.executable, "-m", "kmsruntime", name, "--dir", str(self.directory), *rest]

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.directory.parent), "LANG": "C.UTF-8", **more}

    def enrol(self, atom: Atom | None = None, *options: str) -> Container:
        """Enrol as a node of an Atom (by default the stage's first) with a new installer token."""
        done = self.enrol_with(self.installer_token(atom), *options)
        assert done.returncode == 0, done.stderr
        return self

    def enrol_with(self, token: str, *options: str) -> subprocess.CompletedProcess[str]:
        addresses = ("--portal", self.portal.url, "--vault", self.portal.vault_address)
        return self.command("enrol", *addresses, *options, input=token + "\n")

    def installer_token(self, atom: Atom | None = None) -> str:
        return create_installer_token(atom or self.stage.atom, minutes=30, actor=self.stage.alice)[1]

    def synchroniser(self) -> Synchroniser:
        return Synchroniser(Parts(self.home), lambda seconds: _slept(seconds), self.lines.append)

    def sync(self, **options: Any) -> Outcome:
        return self.synchroniser().sync(**options)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return found

    def after_more_syncs(self) -> None:
        """Wait until a `run` has gone on: what has not happened by then does not happen.

        Each sync ends by replacing the state. The one under way does not count, and another look may write it too.
        """
        for _ in range(3):
            before, deadline = self.home.state.stat().st_ino, time.monotonic() + 60
            while self.home.state.stat().st_ino == before:
                assert time.monotonic() < deadline, "it does not sync any more"
                time.sleep(0.05)

    def values(self) -> dict[str, str]:
        """What the store holds, by label, opened with what is in the directory; without a value "missing" or "lost"."""
        from kmsruntime.environment import label

        store = StoreFile(self.home, self.home.read_config()).read()
        if store is None:
            return {}
        return {
            label(held): {"plain": held.plain, "missing": "missing", "lost": "lost"}.get(held.form)
            or store.open(held).decode()
            for held in store.held
        }


def bring_your_own_vault(stage: Stage, atom: Atom, vault: CustomerVault | None, *, wrapped: bool = False) -> int:
    """Save an Atom's KMS settings: a file of this vault, or None for the hosted vault. Returns the settings' revision."""
    atom = Atom.objects.get(pk=atom.pk)
    saved = save_kms_settings(
        atom,
        mode="byov" if vault else "hosted",
        wrapped=wrapped,
        file=PropertiesUpload("application.yaml", vault, facts_of(vault)) if vault else None,
        expected_revision=settings_of(with_settings(atom)).revision,
        actor=stage.alice,
    )
    return saved.revision


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def leave_to_the_component(stage: Stage, key: str) -> None:
    """The row of an encrypted field as a save once wrote it for "use the connection component's value"."""
    stage.production.refresh_from_db()
    ExtensionValue.objects.update_or_create(
        environment=stage.production,
        field=stage.field(key),
        defaults={
            "form": "component",
            "sealed": None,
            "data_key": None,
            "revision": stage.production.extensions_revision + 1,
            "set_at": timezone.now(),
        },
    )


def save(stage: Stage, properties: dict[str, str | None] | None = None, **fields: str | None) -> Saved:
    """Save in the stage's production environment: a text sets, None clears."""
    changes = []
    for key, value in fields.items():
        row = stage.field(key)
        if value is None:
            changes.append(FieldChange(row, "clear"))
        elif row.encrypted:
            changes.append(FieldChange(row, "secret", Secret(value)))
        else:
            changes.append(FieldChange(row, "plain", value))
    stage.production.refresh_from_db()
    return save_extensions(
        stage.production,
        changes,
        [PropertyChange(name, value) for name, value in (properties or {}).items()],
        expected_revision=stage.production.extensions_revision,
        actor=stage.alice,
    )
