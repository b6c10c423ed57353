"""Which setting every entry of a properties file is, and what is said about those that are none.

Pure. Names are relaxed as Spring Boot relaxes them (`binding`); what a key holds is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kmscore.byov.properties import binding
from kmscore.byov.properties.syntax import Key, PropertyLine

WHOLE_FILE: Final = -1
_MAX_SUGGESTIONS: Final = 10  # one costs 0.2 ms


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding before it has its line: code, offset (WHOLE_FILE for none), suggestion, and words for its sentences."""

    code: str
    at: int
    suggestion: str = ""
    words: dict[str, str] = field(default_factory=dict)


class Remarks(list[Remark]):
    """The remarks on one file; the same is said once at one place."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[tuple[str, int]] = set()

    def say(self, code: str, where: PropertyLine | Key | int | None, suggestion: str = "", **words: str) -> None:
        """Remember a remark at an entry's value, a key, an offset, or (None) on the whole file."""
        at = where if isinstance(where, int) else WHOLE_FILE if where is None else where.at
        if (code, at) not in self._said:
            self._said.add((code, at))
            self.append(Remark(code, at, suggestion, words))

    def has(self, code: str, key: Key) -> bool:
        """Whether this was said about the key."""
        return (code, key.at) in self._said


class Settings:
    """The entries of a file by the settings they are (`binding.USED`)."""

    def __init__(self, text: str, entries: list[PropertyLine], last_counts: bool, remarks: Remarks) -> None:
        """last_counts: whether a key may stand twice, and the last one counts (.properties)."""
        self._text = text
        self._last_counts = last_counts
        self._remarks = remarks
        self._suggestions = 0
        self._entries: dict[str, PropertyLine] = {}
        self._refused: set[str] = set()
        for entry in entries:
            self._sort(entry)

    def entry(self, name: str) -> PropertyLine | None:
        """The setting's entry, a blank one too."""
        return self._entries.get(name)

    def value(self, name: str) -> tuple[PropertyLine | None, str]:
        """What a setting holds; (None, "") when it is not set or blank."""
        entry = self._entries.get(name)
        return (entry, entry.value) if entry and entry.value and entry.value.strip() else (None, "")

    def refuse(self, name: str) -> None:
        """Remember that a setting was written, but is of no use."""
        self._refused.add(name)

    def is_refused(self, name: str) -> bool:
        """Whether a setting was written and refused, so that it is not missing."""
        return name in self._refused

    def _sort(self, entry: PropertyLine) -> None:
        """Put an entry under its setting's name, or say why it has none."""
        parts = _elements(entry)
        elements, keys = tuple(element for element, _ in parts), tuple(key for _, key in parts)
        if elements[:3] != binding.PREFIX:
            self._outside(entry, elements, keys)
            return
        below, places = elements[3:], keys[3:]
        name = binding.NAMES.get(below)
        if name in binding.USED:
            self._keep(name, entry)
        elif below and binding.is_not_used(below):
            self._not_used(below, places)
        elif not below or binding.group_of(below):
            if entry.value is not None:
                self._remarks.say("group_value", entry, setting=binding.group_of(below) or "spring.cloud.vault")
        else:
            self._unknown(entry, below, places)

    def _keep(self, name: str, entry: PropertyLine) -> None:
        before = self._entries.get(name)
        if before and _spelling(before) != _spelling(entry):
            self._remarks.say("ambiguous_key", entry.keys[-1], setting=name)
        elif before and not self._last_counts:
            self._remarks.say("duplicate_key", entry.keys[-1])
        self._entries[name] = entry

    def _outside(self, entry: PropertyLine, elements: tuple[str, ...], keys: tuple[Key, ...]) -> None:
        if elements == binding.PREFIX[: len(elements)] and (entry.value is None or not elements):
            return
        name = binding.environment_spelling(elements) if len(elements) == 1 else ""
        if name:
            self._remarks.say("environment_spelling", keys[0], f"spring.cloud.vault.{name}")
            return
        departed = next((i for i, (a, b) in enumerate(zip(elements, binding.PREFIX, strict=False)) if a != b), 0)
        rest = elements
        while rest and rest[0] in binding.PREFIX:
            rest = rest[1:]
        meant = binding.NAMES.get(rest) or (
            binding.NAMES.get(elements[3:]) if binding.is_nearly_prefix(elements) else None
        )
        self._remarks.say("outside", keys[departed], f"spring.cloud.vault.{meant}" if meant in binding.USED else "")

    def _not_used(self, below: tuple[str, ...], places: tuple[Key, ...]) -> None:
        if below[:2] == ("config", "lifecycle"):
            self._remarks.say("secret_leases", places[0])
            return
        length = next(n for n in range(1, len(below) + 1) if binding.is_not_used(below[:n]))
        name = binding.NAMES.get(below[:length]) or next(
            one for one in binding.NOT_USED_GROUPS if binding.uniform(one) == below[:length]
        )
        self._remarks.say("not_used", places[length - 1], setting=name)

    def _unknown(self, entry: PropertyLine, below: tuple[str, ...], places: tuple[Key, ...]) -> None:
        for length in range(1, min(len(below), binding.LONGEST)):
            name = binding.NAMES.get(below[:length])
            if name in binding.USED:
                self._not_a_value(name, entry, below[length], places[length])
                return
        known = binding.group_length(below)
        if self._remarks.has("unknown_key", places[known]):
            return
        self._suggestions += 1
        meant = binding.suggestion_for(below) if self._suggestions <= _MAX_SUGGESTIONS else ""
        self._remarks.say("unknown_key", places[known], meant)

    def _not_a_value(self, name: str, entry: PropertyLine, element: str, key: Key) -> None:
        """A list or a mapping stands where one value belongs; `{VAULT_URI}` is a mapping for YAML."""
        self._refused.add(name)
        brace = len(self._text[: key.at].rstrip()) - 1
        if element[:1] == "[":
            self._remarks.say("list_value", key, setting=name)
        elif entry.value is None and self._text[brace] == "{":
            self._remarks.say("placeholder_without_dollar", brace)
        else:
            self._remarks.say("mapping_value", key, setting=name)


def _elements(entry: PropertyLine) -> list[tuple[str, Key]]:
    """The uniform elements of an entry's keys, each with the key it stands in."""
    return [(element, key) for key in entry.keys for element in binding.uniform(key.text)]


def _spelling(entry: PropertyLine) -> str:
    return ".".join(key.text for key in entry.keys)
