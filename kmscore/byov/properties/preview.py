"""An uploaded properties file as it may be shown: its lines, with every value hidden that could be a secret.

Pure. It shows what is known to be harmless and hides the rest, so that a mistyped key or a broken file shows no more than
a good one. A hidden text becomes a mask of one length, whatever it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kmscore.byov.customer import holds_placeholder, placeholder_of
from kmscore.byov.properties import binding
from kmscore.byov.properties.syntax import JAVA_BREAK, YAML_BREAK, Key, PropertyFile, Span

MASK: Final = "••••••••"
STRAY_WORDS: Final = frozenset(
    ("unset", "java", "yaml", "yml", "properties", "text", "copy", "bash", "shell", "```", "---", "...")
)
_RUN: Final = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
_SECRET_WORD: Final = re.compile(r"token|secret|passw|passphrase|pwd|credential|privatekey", re.IGNORECASE)
_NAMED: Final = re.compile(r"((?<![\w.\[\]-])[A-Za-z][\w.\[\]-]{0,80}[ \t]{0,8}[:=])(?!//)[ \t]*(\S.*)")
_WORD: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_COMMENT: Final = re.compile(r"(?:^|\s)[#!]")
_PATH: Final = re.compile(r"[\w./:~+-]{0,200}")
_ADDRESS: Final = re.compile(r"[A-Za-z0-9+.-]*:?(?://)?[\w.:/\[\]%~-]{0,300}")


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """One line of the file, by its number from 1; redacted when something in it is hidden."""

    number: int
    text: str
    redacted: bool


def preview_of(text: str, file: PropertyFile | None, is_yaml: bool) -> tuple[PreviewLine, ...]:
    """The file's lines. file: what was read of it; None when it could not be read, and lines are judged one by one."""
    if not text:
        return ()
    lines = YAML_BREAK if is_yaml else JAVA_BREAK
    shown = _guarded(text, lines) if file is None else _masked(text, file.spans, lines)
    return tuple(
        PreviewLine(number, "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line), MASK in line)
        for number, line in enumerate(lines.split(shown.removesuffix("\n")), 1)
    )


# -- a file that was read ----------------------------------------------------------------------------------------------


def _masked(text: str, spans: Sequence[Span], lines: re.Pattern[str]) -> str:
    pieces, at = [], 0
    for span in sorted(spans, key=lambda one: one.start):
        pieces.append(_comments(text[at : span.start], lines))
        part = text[span.start : span.end]
        harmless = _is_harmless_key(span.keys) if span.value is None else _is_harmless(span.keys, span.value)
        pieces.append(_unworded(part, span) if harmless else _hidden(part, lines))
        at = span.end
    return "".join((*pieces, _comments(text[at:], lines)))


def _hidden(part: str, lines: re.Pattern[str]) -> str:
    """A mask for every line of a text, after its indentation; line breaks stay."""
    return re.sub(rf"(?:(?!{lines.pattern}).)*\S(?:(?!{lines.pattern}).)*", _mask_line, part, flags=re.DOTALL)


def _mask_line(line: re.Match[str]) -> str:
    return line[0][: len(line[0]) - len(line[0].lstrip())] + MASK


def _comments(gap: str, lines: re.Pattern[str]) -> str:
    """What stands between keys and values: punctuation and comments, which may hold an old value."""
    if not gap or gap.isspace():
        return gap
    return "".join(
        part if lines.fullmatch(part) else _without_tokens(_NAMED.sub(_named, part))
        for part in re.split(f"({lines.pattern})", gap)
    )


def _named(found: re.Match[str]) -> str:
    """`name: value` in a comment: the value is hidden unless it would be shown outside of one."""
    name = found[1].rstrip(" \t:=")
    if _is_harmless((*(Key(word, 0) for word in binding.PREFIX), Key(_below_prefix(name), 0)), found[2].strip()):
        return found[0]
    return found[0][: found.start(2) - found.start()] + MASK


def _unworded(part: str, span: Span) -> str:
    """A harmless key or value, without words in it that look like a token; an address and a placeholder may hold long ones."""
    if span.value is None:
        return part
    if placeholder_of(span.value) or _elements(span.keys)[-1:] == ("uri",):
        return binding.TOKEN_OR_PART.sub(MASK, part)
    return _without_tokens(part)


def _without_tokens(part: str) -> str:
    return _RUN.sub(lambda run: run[0] if _is_rule(run[0]) else MASK, binding.TOKEN_OR_PART.sub(MASK, part))


def _is_rule(run: str) -> bool:
    """A line drawn in a comment, or a known key."""
    return len(set(run)) == 1 or "".join(binding.uniform(run)) in binding.KNOWN_WORDS


def _elements(keys: Sequence[Key]) -> tuple[str, ...]:
    """The uniform elements below the prefix; those of a key elsewhere begin with another word."""
    elements = tuple(one for key in keys for one in binding.uniform(key.text))
    return elements[3:] if elements[:3] == binding.PREFIX else ("", *elements)


def _below_prefix(name: str) -> str:
    """A key without the prefix, which stands above it or in it."""
    elements = binding.uniform(name)
    return ".".join(elements[3:] if elements[:3] == binding.PREFIX else elements)


def _is_harmless_key(keys: Sequence[Key]) -> bool:
    *above, last = keys
    if set(binding.uniform(last.text)) <= binding.KNOWN_WORDS:
        return True
    if any(_SECRET_WORD.search(key.text) for key in above) or _stands_under_a_setting(above):
        return False
    return bool(_WORD.fullmatch(last.text)) and _without_tokens(last.text) == last.text


def _stands_under_a_setting(keys: Sequence[Key]) -> bool:
    """Whether a key is in a value's place, as in `token: {word}`."""
    return any(_elements(keys[:length]) in binding.NAMES for length in range(1, len(keys) + 1))


def _is_harmless(keys: Sequence[Key], value: str) -> bool:
    """Whether the value of these keys may be shown: empty, a placeholder without a secret, or well formed for its setting."""
    name = binding.NAMES.get(_elements(keys), "")
    placeholder = placeholder_of(value)
    if placeholder and not binding.TOKEN_OR_PART.search(placeholder.name):
        default = placeholder.default or ""
        return not default or (name not in binding.SECRET and _is_well_formed(name, default))
    return not value.strip() or (not holds_placeholder(value) and _is_well_formed(name, value))


def _is_well_formed(name: str, value: str) -> bool:
    judge = _WELL_FORMED.get(name)
    return bool(judge and judge(value)) and not binding.TOKEN_OR_PART.search(value)


def _is_boolean(value: str) -> bool:
    return binding.to_boolean(value) is not None


def _is_seconds(value: str) -> bool:
    return binding.to_seconds(value) is not None


def _is_number(value: str) -> bool:
    return binding.to_whole_number(value) is not None


def _is_path(value: str) -> bool:
    return _PATH.fullmatch(value) is not None


def _is_address(value: str) -> bool:
    return _ADDRESS.fullmatch(value) is not None


_WELL_FORMED: Final[dict[str, Callable[[str], bool]]] = {
    "uri": _is_address,
    "scheme": lambda value: value.strip().lower() in ("http", "https"),
    "host": _is_path,
    "port": _is_number,
    "namespace": _is_path,
    "authentication": lambda value: binding.to_enum(value) in binding.AUTHENTICATIONS,
    "enabled": _is_boolean,
    "fail-fast": _is_boolean,
    "connection-timeout": _is_number,
    "read-timeout": _is_number,
    "session.lifecycle.enabled": _is_boolean,
    "session.lifecycle.refresh-before-expiry": _is_seconds,
    "session.lifecycle.expiry-threshold": _is_seconds,
    "ssl.trust-store": _is_path,
    "ssl.trust-store-type": lambda value: binding.to_enum(value) in ("pem", "jks", "pkcs12"),
    "ssl.key-store": _is_path,
    "ssl.key-store-type": lambda value: binding.to_enum(value) in ("pem", "jks", "pkcs12"),
}

# -- a file that could not be read -------------------------------------------------------------------------------------

_JUDGED_LINES: Final = 400  # a file of settings has 200 at most; judging a line takes 20 µs
_PAIR: Final = re.compile(r"(\s*-?\s*)([A-Za-z][A-Za-z0-9_.-]{0,80})(\s*[:=]\s*)(.*)", re.DOTALL)


def _guarded(text: str, lines: re.Pattern[str]) -> str:
    """Every line on its own: shown are known keys, values that are well formed for them, comments, and a few stray words."""
    parts = re.split(f"({lines.pattern})", text)
    judged, rest = parts[: 2 * _JUDGED_LINES], parts[2 * _JUDGED_LINES :]
    return "".join(
        [part if number % 2 else _guarded_line(part) for number, part in enumerate(judged)]
        + [part if number % 2 or not part.strip() else MASK for number, part in enumerate(rest)]
    )


def _guarded_line(line: str) -> str:
    if not line.strip() or line.strip().lower() in STRAY_WORDS:
        return line
    if line.lstrip()[0] in "#!":
        return _comments(line, JAVA_BREAK)
    pair = _PAIR.fullmatch(line)
    if not pair or binding.TOKEN_OR_PART.search(pair[2]):
        return _hidden(line, JAVA_BREAK)
    known = set(binding.uniform(pair[2])) <= binding.KNOWN_WORDS
    key = "".join(pair.group(1, 2, 3)) if known or _without_tokens(pair[2]) == pair[2] else f"{pair[1]}{MASK}{pair[3]}"
    return key + _guarded_value(pair[2], pair[4])


def _guarded_value(key: str, rest: str) -> str:
    comment = _COMMENT.search(rest)
    value, after = (rest[: comment.start()], rest[comment.start() :]) if comment else (rest, "")
    name = _name_of(key)
    keys = tuple(Key(word, 0) for word in (*binding.PREFIX, *name.split(".")))
    bare = value.strip().strip("\"'")
    shown = value if _is_harmless(keys, bare) else _hidden(value, JAVA_BREAK)
    if shown == value and name != "uri" and not placeholder_of(bare):
        shown = _without_tokens(value)
    return shown + (_comments(after, JAVA_BREAK) if shown == value else "")


def _name_of(key: str) -> str:
    """The setting a key means whatever stands above it; its own text when none does."""
    below = _below_prefix(key)
    return _BY_LAST_WORD.get(binding.uniform(below)[-1:], below or "none")


# session.lifecycle.enabled, not enabled: the first of those used counts
_BY_LAST_WORD: Final = {elements[-1:]: name for elements, name in reversed(binding.NAMES.items())}
