"""The form of an Atom's Key Management Service settings."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from atoms.models import Atom
from kmscore.byov.properties import MAX_BYTES, Reading, facts_of, read_properties
from vaults.models import KmsSettings, PropertiesFile
from vaults.panel.settings import PropertiesUpload, SettingsInvalid, refuse_impossible

NAME_CHARACTERS = 120
_TOKEN = re.compile(r"\b(?:hv[sbr]|[sbr])\.[A-Za-z0-9_-]{8,}|[A-Za-z0-9_-]{40,}")


class KmsSettingsForm(forms.Form):
    """Bring Your Own Vault, the properties file, wrapped. `reading` is what the linter said about an uploaded file."""

    byov = forms.BooleanField(required=False, label="Bring Your Own Vault")
    wrapped = forms.BooleanField(required=False, label="Wrapped Encryption Key")
    file = forms.FileField(required=False, label="Select File to Upload")
    expected_revision = forms.IntegerField(min_value=1, max_value=2**31 - 1, widget=forms.HiddenInput)
    confirmed = forms.CharField(required=False)

    def __init__(
        self, data: Any, files: Any, *, atom: Atom, current: KmsSettings, stored: PropertiesFile | None
    ) -> None:
        super().__init__(data, files)
        self.atom, self.current, self.stored = atom, current, stored
        self.reading: Reading | None = None

    @property
    def mode(self) -> str:
        """As asked."""
        return KmsSettings.Mode.BYOV if self.cleaned_data["byov"] else KmsSettings.Mode.HOSTED

    @property
    def upload(self) -> PropertiesUpload | None:
        """The chosen file, once it was read without an error; none without Bring Your Own Vault."""
        if self.mode != KmsSettings.Mode.BYOV or self.reading is None or self.reading.vault is None:
            return None
        return PropertiesUpload(self.file_name, self.reading.vault, facts_of(self.reading.vault))

    @property
    def file_name(self) -> str:
        """For people only: no path, nothing that steers a terminal or a header."""
        name = str(self.cleaned_data["file"].name).replace("\\", "/").rpartition("/")[2]
        shown = "".join(c for c in name if c.isprintable())[-NAME_CHARACTERS:] or "file"
        # Somebody may have named it after the token in it.
        return f"properties.{shown.rpartition('.')[2]}" if _TOKEN.search(shown) else shown

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if cleaned.get("file"):
            self.reading = read_upload(cleaned["file"])
            if self.reading.vault is None and cleaned.get("byov"):
                errors = sum(finding.severity == "error" for finding in self.reading.findings)
                self.add_error("file", f"{self.file_name} has {errors} error{'s' if errors > 1 else ''}; see below.")
                return cleaned
        try:
            refuse_impossible(
                self.atom,
                mode=self.mode,
                wrapped=bool(cleaned.get("wrapped")),
                has_file=bool(self.upload or self.stored),
            )
        except SettingsInvalid as refusal:
            self.add_error(refusal.field, refusal.sentence)
        return cleaned


def read_upload(file: UploadedFile) -> Reading:
    """Lint an uploaded file; of a longer one only that it is too long is looked at."""
    return read_properties(str(file.name), file.read(MAX_BYTES + 1))
