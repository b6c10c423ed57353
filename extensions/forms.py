"""What people may type about connections."""

import uuid
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from atoms.forms import NamedForm
from extensions.connections import FieldSpec
from extensions.models import Connection, Field
from extensions.values import BadValue, checked


class ConnectionForm(NamedForm):
    version = forms.CharField(required=False, widget=forms.HiddenInput)
    # Which values of environments may be deleted with fields that leave: what a box sends that the page offers when it asks.
    confirmed = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)

    class Meta:
        model = Connection
        fields = ["name"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.changed_at:
            self.initial["version"] = self.instance.version


class FieldForm(forms.Form):
    """One field of a connection. Of an existing one, id and kind are shown and stay as they are."""

    id = forms.UUIDField(required=False, widget=forms.HiddenInput)
    key = forms.CharField(max_length=64, label="Field id", validators=Field._meta.get_field("key").validators)
    label = forms.CharField(max_length=80)
    encrypted = forms.BooleanField(required=False)
    extensible = forms.BooleanField(required=False, initial=True)
    component_value = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 1, "spellcheck": "false"}),  # an input would lose line breaks
        label="Component value",
        help_text="Used where an environment has no value of its own. Encrypted fields have none here.",
    )

    @property
    def is_blank_row(self) -> bool:
        return not (self["key"].value() or self["label"].value())

    def clean_component_value(self) -> str:
        try:
            return checked(self.cleaned_data["component_value"])
        except BadValue as error:
            raise ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("encrypted") and cleaned.get("component_value"):
            self.add_error("component_value", "An encrypted field has no component value: set it in each environment.")
        return cleaned


class FieldFormSetBase(forms.BaseFormSet):
    """All fields of a connection; `existing` are those stored, by id."""

    def __init__(self, *args: Any, existing: dict[uuid.UUID, Field], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.existing = existing

    def clean(self) -> None:
        """Ids are taken by fields that are not in this form, and until they are gone by those being deleted."""
        self._refuse_fields_named_twice()
        mentioned = {form.cleaned_data.get("id") for form in self.forms if form not in self.deleted_forms}
        seen = {field.key for field in self.existing.values() if field.pk not in mentioned}
        for form in self.forms:
            if form in self.deleted_forms or not form.has_changed() and not form.cleaned_data.get("id"):
                continue
            stored = self._stored(form)
            key = stored.key if stored else form.cleaned_data.get("key")
            if key and key in seen:
                form.add_error("key", f"Another field has the id {key}.")
            if stored and stored.encrypted and form.cleaned_data.get("component_value"):
                form.add_error(
                    "component_value", "An encrypted field has no component value: set it in each environment."
                )
            seen.add(key or "")

    def _refuse_fields_named_twice(self) -> None:
        """One row cannot keep a field that another deletes. The rows say so too, those being deleted among them."""
        rows: dict[Field, list[Any]] = {}
        for form in self.forms:
            if stored := self._stored(form):
                rows.setdefault(stored, []).append(form)
        twice = {stored: same for stored, same in rows.items() if len(same) > 1}
        for stored, same in twice.items():
            for form in same:
                form.add_error("label", f"Two rows of this form are the field {stored.key}.")
        if twice:
            keys = ", ".join(stored.key for stored in twice)
            raise ValidationError(f"More than one row is the field {keys}. Load the page again; nothing was changed.")

    def _stored(self, form: Any) -> Field | None:
        return self.existing.get(form.cleaned_data["id"]) if form.cleaned_data.get("id") else None

    def deleted(self) -> set[uuid.UUID]:
        """The stored fields whose deletion was ticked; one that is not found may be hidden, and is not deleted then."""
        return {form.cleaned_data["id"] for form in self.deleted_forms if form.cleaned_data.get("id")}

    def specs(self) -> list[FieldSpec]:
        """The fields as they shall be, in order; deleted and blank rows are left out."""
        specs = []
        for form in self.forms:
            cleaned = form.cleaned_data
            if form in self.deleted_forms or not cleaned.get("label"):
                continue
            stored = self._stored(form)
            specs.append(
                FieldSpec(
                    id=stored.pk if stored else None,
                    key=stored.key if stored else cleaned["key"],
                    label=cleaned["label"],
                    encrypted=stored.encrypted if stored else cleaned["encrypted"],
                    extensible=cleaned["extensible"],
                    component_value=cleaned["component_value"],
                )
            )
        return specs


FieldFormSet: Any = forms.formset_factory(FieldForm, formset=FieldFormSetBase, extra=3, can_delete=True, max_num=2000)


def field_formset(data: Any, connection: Connection | None) -> FieldFormSetBase:
    """The formset of a connection's fields, bound when there is data."""
    stored = {field.pk: field for field in connection.fields.verified()} if connection else {}
    rows: list[Field | None] = list(stored.values())
    if data:  # the rows as they were shown, which may have been other ones
        by_id = {str(field.pk): field for field in stored.values()}
        count = FieldFormSet(data, existing=stored, prefix="fields").initial_form_count()
        rows = [by_id.get(data.get(f"fields-{number}-id")) for number in range(min(count, FieldFormSet.absolute_max))]
    initial = [
        {
            "id": field.pk,
            "key": field.key,
            "label": field.label,
            "encrypted": field.encrypted,
            "extensible": field.extensible,
            "component_value": field.component_value,
        }
        if field
        else {}
        for field in rows
    ]
    formset: FieldFormSetBase = FieldFormSet(data, initial=initial, existing=stored, prefix="fields")
    return formset
