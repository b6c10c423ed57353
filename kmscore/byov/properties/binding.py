"""How Spring Boot binds the settings of a vault: relaxed names, and the texts of booleans, times and numbers.

Pure. Sources: VaultProperties of Spring Cloud Vault, ConfigurationPropertyName and DurationStyle of Spring Boot. What
cannot be converted is None; nothing here raises or keeps a text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Final

PREFIX: Final = ("spring", "cloud", "vault")

# -- names -------------------------------------------------------------------------------------------------------------

USED: Final = (
    "uri",
    "scheme",
    "host",
    "port",
    "namespace",
    "authentication",
    "token",
    "connection-timeout",
    "read-timeout",
    "session.lifecycle.enabled",
    "session.lifecycle.refresh-before-expiry",
    "session.lifecycle.expiry-threshold",
    "ssl.trust-store",
    "ssl.trust-store-password",
    "ssl.trust-store-type",
    "ssl.key-store",
    "ssl.key-store-password",
    "ssl.key-store-type",
)
NOT_USED: Final = (
    "enabled",
    "fail-fast",
    "ssl.cert-auth-path",
    "ssl.role",
    "ssl.enabled-protocols",
    "ssl.enabled-cipher-suites",
)
# Whole groups of settings: other ways to sign in, and engines other than transit.
NOT_USED_GROUPS: Final = (
    *("app-id", "app-role", "aws-ec2", "aws-iam", "azure-msi", "gcp-gce", "gcp-iam", "github", "kubernetes", "pcf"),
    *("config", "discovery", "reactive", "kv", "generic", "database", "databases", "rabbitmq", "consul", "aws"),
    *("cassandra", "couchbase", "elasticsearch", "mongodb", "mysql", "postgresql"),
)
GROUPS: Final = ("session", "session.lifecycle", "ssl")
SECRET: Final = frozenset(("token", "ssl.trust-store-password", "ssl.key-store-password"))


LONGEST: Final = 4  # elements below the prefix: no setting has more, so that only as many beginnings are compared


def uniform(key: str) -> tuple[str, ...]:
    """A key's elements as they are compared: ``Session.refresh_beforeExpiry`` is ("session", "refreshbeforeexpiry").

    An index is an element of its own: ``uri[0]`` and ``uri[]`` are ("uri", "[0]") and ("uri", "[]").
    """
    elements = key.replace("[", ".[").split(".")
    return tuple(one if one[:1] == "[" else one.replace("-", "").replace("_", "").lower() for one in elements if one)


NAMES: Final = {uniform(name): name for name in (*USED, *NOT_USED)}
_GROUPS: Final = {uniform(name): name for name in GROUPS}
_NOT_USED: Final = frozenset(uniform(name) for name in (*NOT_USED, *NOT_USED_GROUPS))
_FULL: Final = {"".join((*PREFIX, *elements)): name for elements, name in NAMES.items() if name in USED}
KNOWN_WORDS: Final = frozenset((*PREFIX, *(element for elements in NAMES for element in elements)))


def group_of(elements: Sequence[str]) -> str | None:
    """The group of settings the elements (below the prefix) name, as ``session.lifecycle``."""
    return _GROUPS.get(tuple(elements))


def group_length(elements: Sequence[str]) -> int:
    """How many of the first elements are a group: 2 for ``session.lifecycle.enabld``."""
    return max((n for n in range(1, min(len(elements), LONGEST)) if group_of(elements[:n])), default=0)


def is_not_used(elements: Sequence[str]) -> bool:
    """Whether the elements (below the prefix) name, or stand in, what is known but irrelevant to the container."""
    return any(tuple(elements[:length]) in _NOT_USED for length in range(1, LONGEST))


def environment_spelling(elements: Sequence[str]) -> str:
    """The setting that ``SPRING_CLOUD_VAULT_URI`` would name as an environment variable, or ""."""
    return _FULL.get("".join(elements), "")


def suggestion_for(elements: Sequence[str]) -> str:
    """The setting that was probably meant by unknown elements below the prefix, or ""; at most 64 characters are compared."""
    group = group_length(elements)
    text, near = ".".join(elements[group:]), elements[:group]
    if len(text) > 64:
        return ""
    names = {known: name for known, name in NAMES.items() if name in USED}
    rest = {".".join(known[group:]): name for known, name in names.items() if known[:group] == near}
    close = difflib.get_close_matches(text, rest, 1, 0.7)
    if close:
        return rest[close[0]]
    last = [name for known, name in names.items() if known[-len(elements) :] == tuple(elements)]
    return last[0] if len(last) == 1 else ""  # the right name in the wrong group, as lifecycle.enabled


def is_nearly_prefix(elements: Sequence[str]) -> bool:
    """Whether the elements begin almost with the prefix: one of its three words mistyped or left out."""
    head = ".".join(elements[:3])
    return len(head) <= 64 and difflib.SequenceMatcher(None, head, ".".join(PREFIX)).ratio() >= 0.8


# -- values ------------------------------------------------------------------------------------------------------------

AUTHENTICATIONS: Final = frozenset(
    ("token", "none", "approle", "awsec2", "awsiam", "azuremsi", "cert", "cubbyhole", "gcpgce", "gcpiam", "github")
    + ("kubernetes", "pcf")
)
_TRUE: Final = frozenset(("true", "on", "yes", "1"))
_FALSE: Final = frozenset(("false", "off", "no", "0"))
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIMPLE: Final = re.compile(r"([+-]?[0-9]{1,15})([a-zA-Z]{0,2})")
_ISO: Final = re.compile(
    r"([+-]?)P(?:([+-]?[0-9]{1,9})D)?"
    r"(T(?:([+-]?[0-9]{1,9})H)?(?:([+-]?[0-9]{1,9})M)?(?:([+-]?[0-9]{1,9}(?:[.,][0-9]{0,9})?)S)?)?",
    re.IGNORECASE,
)


def to_boolean(text: str) -> bool | None:
    """true, on, yes, 1 and false, off, no, 0 in any case (StringToBooleanConverter)."""
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def to_seconds(text: str) -> float | None:
    """A time in seconds: ``20s``, ``500ms``, a bare number of milliseconds, or ISO-8601 as ``PT1M30S`` (DurationStyle)."""
    simple = _SIMPLE.fullmatch(text)
    if simple:
        unit = _UNITS.get((simple[2] or "ms").lower())
        return None if unit is None else round(int(simple[1]) * unit, 9)
    iso = _ISO.fullmatch(text)
    if not iso or iso[3] in ("T", "t") or (iso[2] is None and iso[3] is None):
        return None
    days, hours, minutes = (int(part or 0) for part in (iso[2], iso[4], iso[5]))
    seconds = float((iso[6] or "0").replace(",", "."))
    return (-1 if iso[1] == "-" else 1) * (days * 86400 + hours * 3600 + minutes * 60 + seconds)


def is_bare_number(text: str) -> bool:
    """Whether a time is written without its unit."""
    return text.lstrip("+-").isdigit()


def to_whole_number(text: str) -> int | None:
    """A decimal number of up to ten digits, as the integers of timeouts and ports are."""
    word = text.strip()
    return int(word) if re.fullmatch(r"[+-]?(?:0|[1-9][0-9]{0,9})", word) else None


def to_enum(text: str) -> str:
    """An enum's name as it is compared: letters and digits only, in lower case."""
    return "".join(c for c in text.lower() if c.isalnum())


# -- traps -------------------------------------------------------------------------------------------------------------

# A vault's tokens are 24 characters and longer; eight are enough to hide a word, but not to refuse an address.
TOKEN: Final = re.compile(r"(?:hv[sbr]|(?<![A-Za-z0-9])[sbr])\.[A-Za-z0-9_-]{20,}")
TOKEN_OR_PART: Final = re.compile(r"(?:hv[sbr]|(?<![A-Za-z0-9])[sbr])\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)*")
_UNFILLED: Final = re.compile(
    r"<.*>|\[.*\]|\.{2,}|x{3,}|\*{3,}|_{3,}|todo|tbd|fixme|change[-_ ]?(?:me|it)|replace[-_ ]?(?:me|with.*)|insert[-_ ].*"
    r"|(?:your|enter|put|paste)[-_ ].*|example|sample|placeholder|secret|password"
    r"|(?:auth|vault|client)?[-_ ]?token|vault[-_ ]?(?:uri|url|addr|address|namespace)|(?:uri|url|namespace)"
    r"|(?:hvs|s)\.(?:x+|\.+|\*+|<.*>|your.*|token)",
    re.IGNORECASE | re.DOTALL,
)
_NEARLY_PLACEHOLDER: Final = re.compile(
    r"\$[A-Za-z_]\w*|%[A-Za-z_]\w*%|\$\([A-Za-z_]\w*\)|\$?\{\{.*\}\}|\$\{[^}]*|#\{.*\}|\$\{[^A-Za-z_].*\}|\$\{\w+\s.*\}",
    re.DOTALL,
)


def is_unfilled(text: str) -> bool:
    """Whether a text is the kind of word an example holds where a value belongs."""
    return len(text) <= 200 and _UNFILLED.fullmatch(text.strip()) is not None


def is_unfilled_address(text: str) -> bool:
    """The same for an address, whose host alone may be the example's: ``https://<host>:8200``."""
    return (
        is_unfilled(text)
        or re.match(r"https?://(?:<|your[-_.]|x{3,}|\.{2,}|change)", text.strip(), re.IGNORECASE) is not None
    )


def lacks_dollar(text: str) -> bool:
    """``{VAULT_URI}``."""
    return re.fullmatch(r"\s*\{\s*[A-Za-z_][\w.-]*(?::[^{}]*)?\}\s*", text) is not None


def is_nearly_placeholder(text: str) -> bool:
    """``$NAME``, ``%NAME%``, ``{{ name }}``, ``${NAME`` and the like."""
    return _NEARLY_PLACEHOLDER.fullmatch(text.strip()) is not None
