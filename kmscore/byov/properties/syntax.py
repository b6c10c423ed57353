"""The syntax of properties files, YAML and .properties: which keys and values stand where.

Pure. It reads what Spring Boot's loaders read (OriginTrackedYamlLoader, OriginTrackedPropertiesLoader), every scalar as
text, and refuses before building anything what could make reading expensive: aliases, anchors, merge keys, tags, depth,
numbers of nodes. Places are offsets into the text. Nothing raised here holds a word of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

MAX_DEPTH: Final = 8
MAX_NODES: Final = 200
NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))  # of YAML's core schema, where not quoted
YAML_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
JAVA_BREAK: Final = re.compile("\r\n|[\n\r]")


class FileRefused(Exception):
    """The text cannot be read; `code` is a finding's, `at` an offset. Never says what the text held."""

    def __init__(self, code: str, at: int) -> None:
        super().__init__(code)
        self.code = code
        self.at = at


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is written, and where; several elements when it is dotted. A list's element has the text ``[0]``."""

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class PropertyLine:
    """One value and the keys it stands under, outermost first. value None: nothing is set (empty, YAML's null)."""

    keys: tuple[Key, ...]
    value: str | None
    at: int


@dataclass(frozen=True, slots=True)
class Span:
    """Where a key or a value stands in the text, quotes included. keys: those above it, its own included."""

    keys: tuple[Key, ...]
    start: int
    end: int
    value: str | None  # None: the span is a key's


@dataclass(slots=True)
class PropertyFile:
    """What was read: values in order, the spans of all keys and values, and (code, offset) of what is wrong with keys."""

    entries: list[PropertyLine] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    problems: list[tuple[str, int]] = field(default_factory=list)


# -- YAML --------------------------------------------------------------------------------------------------------------


def read_yaml(text: str) -> PropertyFile:
    """Read one YAML document whose root is a mapping; a text of comments gives no entries. Raises FileRefused."""
    try:
        return _Composer(text).compose_file()
    except yaml.MarkedYAMLError as broken:
        is_open = broken.context == "while scanning a quoted scalar"  # its end was looked for up to the file's end
        mark = (broken.context_mark if is_open else broken.problem_mark) or broken.context_mark
        code, at = "quote_open" if is_open else "yaml_broken", mark.index if mark else 0
    except ReaderError as broken:
        raise FileRefused("not_text", broken.position) from None
    raise FileRefused(code, min(at, len(text)))


class _Composer(Reader, Scanner, Parser):
    """PyYAML's events, cut off as soon as something is met that is not accepted."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        self.file = PropertyFile()
        self.nodes = 0

    def _take(self) -> Any:
        return self.get_event()  # type: ignore[no-untyped-call]

    def _next(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]

    # The scanner looks ahead by up to 1,024 characters; refused here, 1,024 open brackets never pile up.
    def fetch_flow_collection_start(self, TokenClass: type) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise FileRefused("too_deep", self.index)
        super().fetch_flow_collection_start(TokenClass)

    def fetch_alias(self) -> None:
        raise FileRefused("yaml_alias", self.index)

    def fetch_anchor(self) -> None:
        raise FileRefused("yaml_anchor", self.index)

    def fetch_tag(self) -> None:
        raise FileRefused("yaml_tag", self.index)

    def compose_file(self) -> PropertyFile:
        self._take()  # the stream's start
        if self.check_event(yaml.StreamEndEvent):
            return self.file
        self._take()  # the document's start
        self._refuse_too_many(self._next().start_mark.index)
        if isinstance(self._next(), yaml.MappingStartEvent):
            self._mapping((), 1)
        elif not self._is_null(self._next()):
            raise FileRefused("not_a_mapping", self._next().start_mark.index)
        else:
            self._take()
        self._take()  # the document's end
        if not self.check_event(yaml.StreamEndEvent):
            raise FileRefused("several_documents", self._next().start_mark.index)
        return self.file

    def _node(self, keys: tuple[Key, ...], depth: int) -> None:
        event = self._next()
        start, end = event.start_mark.index, event.end_mark.index
        self._refuse_too_many(start)
        if isinstance(event, yaml.ScalarEvent):
            self._take()
            value = "" if self._is_null(event) else event.value
            self.file.entries.append(PropertyLine(keys, None if self._is_null(event) else value, start))
            self.file.spans.append(Span(keys, start, end, value))
        elif depth > MAX_DEPTH:
            raise FileRefused("too_deep", start)
        elif isinstance(event, yaml.MappingStartEvent):
            self._mapping(keys, depth)
        else:
            self._sequence(keys, depth)

    def _mapping(self, keys: tuple[Key, ...], depth: int) -> None:
        self._take()
        seen = set()
        while not self.check_event(yaml.MappingEndEvent):
            event = self._take()
            start, end = event.start_mark.index, event.end_mark.index
            self._refuse_too_many(start)
            if not isinstance(event, yaml.ScalarEvent):
                raise FileRefused("key_not_text", start)
            if event.value == "<<" and event.style is None:
                raise FileRefused("yaml_merge", start)
            if event.value in seen:
                self.file.problems.append(("duplicate_key", start))
            seen.add(event.value)
            below = (*keys, Key(event.value, start))
            self.file.spans.append(Span(below, start, end, None))
            self._node(below, depth + 1)
        self._take()

    def _sequence(self, keys: tuple[Key, ...], depth: int) -> None:
        start = self._next().start_mark.index
        self._take()
        number = 0
        while not self.check_event(yaml.SequenceEndEvent):
            self._node((*keys, Key(f"[{number}]", start)), depth + 1)
            number += 1
        self._take()

    def _refuse_too_many(self, at: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise FileRefused("too_many_nodes", at)

    @staticmethod
    def _is_null(event: Any) -> bool:
        return isinstance(event, yaml.ScalarEvent) and event.style is None and event.value in NULLS


# -- .properties -------------------------------------------------------------------------------------------------------

_BLANK: Final = " \t\f"
_BREAKS: Final = "\r\n"
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_HEXADECIMAL: Final = frozenset("0123456789abcdefABCDEF")


def read_java(text: str) -> PropertyFile:
    """Read a .properties file, already decoded. Raises FileRefused."""
    return _Lines(text).read()


class _Lines:
    """A cursor over logical lines: `\\` at a line's end joins the next one, without its leading blanks."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def read(self) -> PropertyFile:
        file = PropertyFile()
        seen = set()
        while self._skip(_BLANK + _BREAKS):
            start = self.at
            if self.text[start] in "#!":
                self._comment()
                continue
            if len(file.entries) * 2 >= MAX_NODES:
                raise FileRefused("too_many_nodes", start)
            name = self._word(_BLANK + "=:" + _BREAKS)
            keys = (Key(name, start),)
            file.spans.append(Span(keys, start, self.at, None))
            self._separator()
            value_at = self.at
            value = self._word(_BREAKS).strip(_BLANK + _BREAKS)
            file.entries.append(PropertyLine(keys, value or None, value_at if value else start))
            file.spans.append(Span(keys, value_at, self.at, value))
            if name in seen:
                file.problems.append(("duplicate_in_properties", start))
            seen.add(name)
        return file

    def _skip(self, characters: str) -> bool:
        """Go past those characters; whether any text is left."""
        while self.at < len(self.text) and self.text[self.at] in characters:
            self.at += 1
        return self.at < len(self.text)

    def _comment(self) -> None:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _BREAKS:
            self.at += 1
        if self.text[start + 1 : self.at].rstrip() == "---":  # Spring Boot's mark between documents
            raise FileRefused("several_documents", start)

    def _separator(self) -> None:
        self._skip(_BLANK)
        if self.at < len(self.text) and self.text[self.at] in "=:":
            self.at += 1
            self._skip(_BLANK)

    def _word(self, ends: str) -> str:
        """What stands here up to one of the characters, which an escape keeps from ending it."""
        word = []
        while self.at < len(self.text) and self.text[self.at] not in ends:
            character = self.text[self.at]
            word.append(self._escape() if character == "\\" else character)
            self.at += 1
        self.at = min(self.at, len(self.text))
        return "".join(word)

    def _escape(self) -> str:
        """The character an escape means; leaves the cursor at its last one."""
        self.at += 1
        character = self.text[self.at : self.at + 1]
        if character and character in _BREAKS:
            self.at += self.text.startswith("\r\n", self.at)
            while self.text[self.at + 1 : self.at + 2] in (*_BLANK,):
                self.at += 1
            return ""
        if character == "u":
            digits = self.text[self.at + 1 : self.at + 5]
            if len(digits) < 4 or not _HEXADECIMAL.issuperset(digits):
                raise FileRefused("escape_malformed", self.at - 1)
            self.at += 4
            return chr(int(digits, 16))
        return _ESCAPES.get(character, character)
