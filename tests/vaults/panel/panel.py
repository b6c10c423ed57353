"""The Key Management Service panel as one member uses it over HTTP, for its tests."""

from __future__ import annotations

import re
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from atoms.models import Atom, Node
from extensions.actions import save_extensions
from extensions.plan import FieldChange
from tests.conftest import Stage
from vaults.models import ContainerReport
from vaults.panel.settings import settings_of, with_settings

TOKEN = "hvs.CAESIcanary-of-the-panel-0123456789"
SAMPLE = f"""spring:
  cloud:
    vault:
      uri: https://vault.example.com:8200
      namespace: /admin
      authentication: token
      token: {TOKEN}
      session:
        lifecycle:
          enabled: true
          expiry-threshold: 20s
          refresh-before-expiry: 10s
"""
OTHER = SAMPLE.replace("vault.example", "other.example")
HTMX = {"hx-request": "true"}


class Panel:
    """The panel as one member uses it."""

    def __init__(self, stage: Stage, name: str = "alice", atom: Atom | None = None) -> None:
        self.stage, self.atom, self.client = stage, atom or stage.atom, stage.cast.client(name)

    def url(self, name: str = "kms_panel") -> str:
        return reverse(f"vaults:{name}", args=[self.stage.account.code, self.atom.pk])

    def get(self, name: str = "kms_panel", **headers: str) -> Any:
        return self.client.get(self.url(name), headers=headers)

    def save(self, text: str | None = None, *, htmx: bool = True, name: str = "application.yaml", **data: Any) -> Any:
        """Post the form as it stands; data overrides (None leaves a field out)."""
        current = settings_of(with_settings(self.atom))
        asked: dict[str, Any] = {"expected_revision": current.revision, "byov": "on"} | data
        if text is not None:
            asked["file"] = SimpleUploadedFile(name, text.encode())
        body = {key: value for key, value in asked.items() if value is not None}
        return self.client.post(self.url("kms_settings"), body, headers=HTMX if htmx else {})

    def confirm(self, text: str | None = None, **data: Any) -> Any:
        """Post the form, read what is asked, and post it again with the button that was shown."""
        asked = text_of(self.save(text, **data))
        found = re.search(r'name="confirmed" value="([^"]+)"', asked)
        assert found, asked
        return self.save(text, **data, confirmed=found[1])

    def check(self, text: str, *, htmx: bool = True) -> Any:
        body = {"file": SimpleUploadedFile("application.yaml", text.encode())}
        return self.client.post(self.url("kms_check"), body, headers=HTMX if htmx else {})


def text_of(answer: HttpResponse) -> str:
    return answer.content.decode()


def reported(atom: Atom, **report: Any) -> ContainerReport:
    now = timezone.now()
    node = Node.objects.create(atom=atom, host_name="orders-01", state="enrolled", enrolled_at=now, last_seen_at=now)
    known = {"values": 14, "environment": atom.environment, "revision": 0, "sealed_at": now, "reported_at": now}
    return ContainerReport.objects.create(node=node, **(known | report))


def save_extensions_of(stage: Stage) -> None:
    save_extensions(
        stage.production,
        [FieldChange(stage.field("host"), "plain", "db.test")],
        expected_revision=0,
        actor=stage.alice,
    )
