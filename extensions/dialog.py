"""The Environment Extensions dialog's form: reads its many inputs at once and says what is wrong with which.

A Django form per field would cost more than the save itself; this one keeps the shape (data, is_valid, errors, rows).
Input names, with the field's UUID: `value.<field>` and `component.<field>` of plain fields, `secret.<field>` and
`clear.<field>` of encrypted ones, which have no component value. Of process properties `property.<n>.value`, with
`property.<n>.held`, the name of one that is held, and perhaps `property.<n>.remove`, or with `property.<n>.name`, a new name: what
is typed for a name goes to that name, whatever stands in the table by then. What is not posted stays as it is: the script leaves
out fields and properties nobody touched. Of a touched one all inputs come, so `value.<field>` without its `component.<field>`
says that the box is not ticked.
`clear.<field>` has a token of what was read before the box was ticked (extensions/removal.py); so has `confirmed`, the
button of the question that is asked where it was not read or is no longer true.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from extensions.listing import Listing
from extensions.models import MAX_SAVE_BYTES, MAX_SAVE_FIELDS, ExtensionValue, Field, ProcessProperty
from extensions.plan import NO_COMPONENT_VALUE, FieldChange, PropertyChange
from extensions.removal import Holders, Removal
from extensions.secret import Secret
from extensions.values import BadValue, checked, checked_secret

NEW_PROPERTIES = 3  # empty rows offered
_PROPERTY = re.compile(r"property\.([0-9]{1,9})\.")


@dataclass(slots=True)
class FieldRow:
    """A field as the dialog shows it: `held` is what the environment holds, `typed` what a refused save had typed."""

    field: Field
    held: ExtensionValue | None
    holders: Holders
    is_forged: bool = False  # nobody saved it so; it has to be entered anew
    set_by: str = ""
    value: str = ""
    uses_component: bool = False
    error: str = ""
    retype: bool = False  # a secret was typed and, never being sent back, must be typed again
    clears: bool = False  # a refused save had asked to remove the stored value
    posted_token: str = ""  # of what was read before that; a page that is shown again does not make it newer
    hidden: bool = False  # by the filter; its inputs are posted all the same

    @property
    def input_id(self) -> str:
        """The id of the field's main input, for labels and error links."""
        return f"{'secret' if self.field.encrypted else 'value'}-{self.field.pk}"

    @property
    def input_name(self) -> str:
        return f"{'secret' if self.field.encrypted else 'value'}.{self.field.pk}"

    @property
    def badge(self) -> str:
        if self.is_forged:
            return "Changed past the portal"
        if self.is_lost:
            return "Re-entry needed"
        return "Missing" if self.is_missing else ""

    @property
    def is_set(self) -> bool:
        return self.held is not None and self.held.form == "sealed"

    @property
    def removal(self) -> Removal | None:
        """What removing the stored value would do; None when none is stored."""
        return Removal(self.field, self.held.revision, self.holders) if self.held and self.is_set else None

    @property
    def clear_token(self) -> str:
        """What the box sends: of what is read before it is ticked, so a box that came ticked keeps what it had."""
        if self.clears:
            return self.posted_token
        return self.removal.token if self.removal else ""

    @property
    def is_lost(self) -> bool:
        """Its data key is gone from the vault."""
        return self.held is not None and self.held.data_key is not None and self.held.data_key.lost_at is not None

    @property
    def is_missing(self) -> bool:
        """Nobody can use it as it is: an encrypted field without a value, or a plain one that is blank everywhere."""
        if self.is_forged:
            return True
        if self.field.encrypted:
            return not self.is_set or self.is_lost
        return not (self.held.plain if self.held else self.field.component_value)


@dataclass(slots=True)
class PropertyRow:
    index: int
    name: str = ""
    value: str = ""
    held: ProcessProperty | None = None
    is_forged: bool = False  # nobody saved it so, or it was taken away; it has to be entered anew or removed
    set_by: str = ""
    error: str = ""
    removes: bool = False


def _property_rows(properties: list[ProcessProperty], listing: Listing) -> list[PropertyRow]:
    """Those that are held, by name; and those that were, and were taken away past the portal."""
    held, listed = {one.path: one for one in properties}, listing.rows
    gone = [path[1] for path in listed if path[0] == "property" and path not in held]
    rows = [(one, one.listed != listed.get(path)) for path, one in held.items()]
    rows += [(ProcessProperty(name=name), True) for name in gone]
    return [
        PropertyRow(at, one.name, "" if forged else one.plain, one, forged, listing.by.get(one.path, ""))
        for at, (one, forged) in enumerate(sorted(rows, key=lambda row: row[0].name))
    ]


@dataclass(slots=True)
class ConnectionRows:
    """A connection's part of the dialog."""

    id: str
    name: str
    rows: list[FieldRow] = field(default_factory=list)
    chosen: bool = True  # one can look at a single connection; all of them are posted

    @property
    def hidden(self) -> bool:
        return not self.chosen or all(row.hidden for row in self.rows)

    @property
    def missing(self) -> int:
        return sum(row.is_missing for row in self.rows)


class ExtensionsForm:
    """The dialog for one environment. Unbound it shows what is held; bound it yields field_changes and property_changes."""

    def __init__(
        self,
        fields: list[Field],
        values: Mapping[object, ExtensionValue],
        properties: list[ProcessProperty],
        listing: Listing,
        holders: Holders,
        data: Mapping[str, str] | None = None,
    ) -> None:
        self.data, listed = data, listing.rows
        self.rows = [FieldRow(f, values.get(f.pk), holders) for f in fields if f.extensible]
        for row in self.rows:
            row.is_forged = (row.held.listed if row.held else None) != listed.get(row.field.path)
            row.set_by = "" if row.is_forged else listing.by.get(row.field.path, "")
            follows = row.held is None or row.held.form == "component"
            row.uses_component = follows and not row.field.encrypted and not row.is_forged
            row.value = row.held.plain if row.held and row.held.form == "plain" and not row.is_forged else ""
        self.properties = _property_rows(properties, listing)
        count = len(self.properties)
        self.properties += [PropertyRow(i) for i in range(count, count + NEW_PROPERTIES)]
        paths, shown = {row.field.path for row in self.rows}, {row.field.pk for row in self.rows}
        without_field = [path[-1] for path in listed if path[0] == "connection" and path not in paths]
        stray = [key for key in values if key not in shown]  # of no field at all it counts for nothing
        if not without_field and stray and Field.objects.filter(pk__in=list(map(str, stray))).exists():
            without_field = ["a value"]
        self.without_field = without_field
        self.field_changes: list[FieldChange] = []
        self.property_changes: list[PropertyChange] = []
        self.unconfirmed: list[FieldRow] = []  # stored values to be removed, which nobody has confirmed
        self.form_error = ""
        self.chosen = ""

    def narrow(self, show: str, chosen: str, sought: str) -> None:
        """Hide what is not asked for: `show` all, missing or set; one connection; a text. Errors stay in sight."""
        self.chosen, sought = chosen, sought.casefold()
        for row in self.rows:
            fits = sought in f"{row.field.connection.name} {row.field.label} {row.field.key}".casefold()
            fits = fits and (show == "all" or row.is_missing == (show == "missing"))
            row.hidden = not (fits or row.error)

    @property
    def counts(self) -> dict[str, int]:
        missing = sum(row.is_missing for row in self.rows)
        return {"all": len(self.rows), "missing": missing, "set": len(self.rows) - missing}

    @property
    def is_forged(self) -> bool:
        """Something here is not what was saved, so that nothing is saved before it is dealt with."""
        forged = [row.is_forged for row in self.rows] + [row.is_forged for row in self.properties]
        return bool(self.without_field) or any(forged)

    @property
    def held_properties(self) -> list[PropertyRow]:
        return [row for row in self.properties if row.held]

    @property
    def connections(self) -> list[ConnectionRows]:
        groups: dict[object, ConnectionRows] = {}
        for row in self.rows:
            connection = row.field.connection
            if connection.pk not in groups:
                key = str(connection.pk)
                groups[connection.pk] = ConnectionRows(key, connection.name, chosen=self.chosen in ("", key))
            groups[connection.pk].rows.append(row)
        return list(groups.values())

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """(id of the input, label, what is wrong), in reading order."""
        found = [
            (row.input_id, f"{row.field.connection.name} / {row.field.label}", row.error)
            for row in self.rows
            if row.error
        ]
        return found + [
            (f"property-{p.index}-name", p.name or "Process property", p.error) for p in self.properties if p.error
        ]

    @property
    def retype(self) -> list[FieldRow]:
        return [row for row in self.rows if row.retype]

    @property
    def consent(self) -> str:
        """What the button sends that confirms every removal asked for: "<field>=<token>" of each."""
        removals = [(row.field.pk, row.removal) for row in self.rows if row.clears]
        return " ".join(f"{pk}={removal.token}" for pk, removal in removals if removal)

    def expected_revision(self) -> int | None:
        text = (self.data or {}).get("expected_revision", "")
        return int(text) if text.isdecimal() and len(text) < 16 else None

    def is_valid(self) -> bool:
        """Read every input. What is wrong stands beside its field; what was typed, except secrets, is kept."""
        if self.data is None:
            return False
        size = 0
        for row in self.rows:
            size += self._read(row, self.data)
        self._read_properties(self.data)
        size += sum(len((change.value or "").encode()) for change in self.property_changes)
        changes = len(self.field_changes) + len(self.property_changes)
        if size > MAX_SAVE_BYTES:
            self.form_error = (
                f"This save has {size / 1048576:.1f} MiB of values; at most 4 MiB fit into one. Save it in parts."
            )
        elif changes > MAX_SAVE_FIELDS:
            self.form_error = (
                f"This save changes {changes:,} fields; at most {MAX_SAVE_FIELDS:,} fit into one. Save it in parts."
            )
        elif self.expected_revision() is None:
            self.form_error = "This form is incomplete. Load the page again."
        return not self.errors and not self.form_error

    def _read(self, row: FieldRow, data: Mapping[str, str]) -> int:
        """One field's inputs; returns the bytes of its new value, 0 when it stays as it is."""
        key = str(row.field.pk)
        wants_component = f"component.{key}" in data
        typed = data.get(f"secret.{key}" if row.field.encrypted else f"value.{key}")
        row.retype = bool(row.field.encrypted and typed)
        row.clears = f"clear.{key}" in data
        row.posted_token = self._answered.get(key) or data.get(f"clear.{key}", "")
        try:
            if row.field.encrypted:
                if wants_component:  # a page from before, or no page of ours
                    raise BadValue(NO_COMPONENT_VALUE[0].upper() + NO_COMPONENT_VALUE[1:])
                return self._read_secret(row, typed or "", data)
            return 0 if typed is None else self._read_plain(row, checked(typed), wants_component)
        except BadValue as error:
            row.error = str(error)
            return 0

    @cached_property
    def _answered(self) -> dict[str, str]:
        """The tokens of the question's button, by field."""
        return dict(part.partition("=")[::2] for part in (self.data or {}).get("confirmed", "").split())

    def _is_confirmed(self, row: FieldRow) -> bool:
        return row.removal is None or row.removal.is_confirmed_by(row.posted_token)

    def _read_secret(self, row: FieldRow, typed: str, data: Mapping[str, str]) -> int:
        if typed:
            value = checked_secret(typed)
            if row.clears:
                raise BadValue("Choose one: replace the stored value, or remove it.")
            self.field_changes.append(FieldChange(row.field, "secret", Secret(value)))
            return len(value.encode())
        if f"retype.{row.field.pk}" in data and not row.clears:
            raise BadValue("Type this secret again: it was not kept. To leave what is stored, save once more.")
        if row.clears and (row.held is not None or row.is_forged):
            self.field_changes.append(FieldChange(row.field, "clear"))
            if not self._is_confirmed(row):
                self.unconfirmed.append(row)
        return 0

    def _read_plain(self, row: FieldRow, typed: str, wants_component: bool) -> int:
        before, row.value = row.value, typed
        if wants_component:
            if typed and typed not in (before, row.field.component_value):
                raise BadValue("Untick “Use connection component value” to use this value, or empty it.")
            if not row.uses_component:
                self.field_changes.append(FieldChange(row.field, "component"))
            row.uses_component = True
            return 0
        if not row.uses_component and typed == before:
            return 0
        self.field_changes.append(FieldChange(row.field, "plain", typed))
        row.uses_component = False
        return len(typed.encode())

    def _read_properties(self, data: Mapping[str, str]) -> None:
        held = {row.name: row for row in self.properties if row.held}
        known = {row.index: row for row in self.properties}
        posted = sorted({int(found[1]) for key in data if (found := _PROPERTY.match(key))})
        names = {name.casefold() for name in held}
        for index in posted[: MAX_SAVE_FIELDS + 1]:
            named = data.get(f"property.{index}.held")
            row = (
                held.get(named, PropertyRow(index, named))
                if named is not None
                else known.get(index, PropertyRow(index))
            )
            if row not in self.properties:
                self.properties.append(row)
            try:
                if named is not None:
                    self._read_held(row, index, data)
                else:
                    self._read_new(row, data, names)
            except BadValue as error:
                row.error = str(error)

    def _read_held(self, row: PropertyRow, index: int, data: Mapping[str, str]) -> None:
        if f"property.{index}.value" not in data:
            return
        value = checked(data[f"property.{index}.value"])
        row.removes = f"property.{index}.remove" in data
        if row.held is None:
            raise BadValue(f"There is no property {row.name} here any more. Load the page again.")
        if row.removes:
            self.property_changes.append(PropertyChange(row.name, None))
        elif value != row.value:
            self.property_changes.append(PropertyChange(row.name, value))
        row.value = value

    def _read_new(self, row: PropertyRow, data: Mapping[str, str], names: set[str]) -> None:
        if f"property.{row.index}.value" not in data:
            return
        value = checked(data[f"property.{row.index}.value"])
        row.name, row.value = " ".join(data.get(f"property.{row.index}.name", "").split()), value
        if not row.name and not value:
            return
        if not row.name:
            raise BadValue("Give this property a name.")
        if len(row.name) > 200 or not row.name.isprintable():
            raise BadValue("A property's name has at most 200 characters and no control characters.")
        if row.name.casefold() in names:  # programs get both as the same upper-case environment name
            raise BadValue(f"Another property has the name {row.name}.")
        names.add(row.name.casefold())
        self.property_changes.append(PropertyChange(row.name, value))
