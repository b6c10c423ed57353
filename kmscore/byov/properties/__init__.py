"""Reads an uploaded properties file into a customer's vault, or says line by line what keeps it from being one.

Pure: no Django, no network, nothing of the file in an exception or a sentence. It binds as Spring Cloud Vault does, and is
stricter on purpose where a file could lead a container astray: placeholders are whole values (what the container's
environment holds is never mixed into an address), http is for the own machine, stores are PEM files.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from kmscore.byov.customer import TEXTS, CustomerVault, placeholder_of
from kmscore.byov.properties.findings import RANK, Finding, make_finding
from kmscore.byov.properties.keys import WHOLE_FILE, Remark, Remarks, Settings
from kmscore.byov.properties.preview import STRAY_WORDS, PreviewLine, preview_of
from kmscore.byov.properties.rules import Rules, Variable, address_to_confirm, is_optional, setting_of
from kmscore.byov.properties.syntax import JAVA_BREAK, YAML_BREAK, FileRefused, PropertyFile, read_java, read_yaml

__all__ = ["MAX_BYTES", "Finding", "PreviewLine", "Reading", "Variable", "facts_of", "read_properties"]

MAX_BYTES: Final = 16 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# Files that are uploaded by mistake, by what they begin with or hold at a line's beginning.
_MISTAKEN: Final = (
    (
        "is_policy",
        re.compile(r'\A\s*(?:[A-Za-z]+\s+)?\{\s*"path"\s*:|^[ \t]*path[ \t]+"[^"\n]{0,500}"[ \t]*\{', re.MULTILINE),
    ),
    (
        "is_key_file",
        re.compile(
            r'"(?:unseal_keys_b64|unseal_keys_hex|recovery_keys_b64|keys_base64|keys|root_token)"\s*:'
            r"|^[ \t]*(?:Unseal|Recovery) Key 1:|^[ \t]*Initial Root Token:",
            re.MULTILINE,
        ),
    ),
    ("is_token_answer", re.compile(r'"client_token"\s*:|^token_accessor\s', re.MULTILINE)),
    ("is_certificate", re.compile(r"\A\s*-----BEGIN ")),
)
_ASSIGNMENT: Final = re.compile(r"^[ \t]*spring\.[\w.-]+[ \t]*=", re.MULTILINE | re.IGNORECASE)
_TAB: Final = re.compile(r"^ *\t[ \t]*[^\s#]", re.MULTILINE)
_TIGHT_COLON: Final = re.compile(r"^[ \t]*([A-Za-z][\w-]*):[^\s:]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says. vault is None when a finding is an error; findings by line, errors first within one.

    preview holds nothing secret; variables stand in the order of the file.
    """

    vault: CustomerVault | None = field(repr=False)
    findings: tuple[Finding, ...]
    preview: tuple[PreviewLine, ...] = ()
    variables: tuple[Variable, ...] = ()


def read_properties(name: str, content: bytes) -> Reading:
    """Read an uploaded file by its name's ending: .yaml and .yml as YAML (UTF-8), .properties as ISO-8859-1.

    Never raises, whatever the bytes: at most MAX_BYTES are looked at, and what cannot be read is a finding.
    """
    ending = name.lower().rpartition(".")[2]
    if ending not in ("yaml", "yml", "properties"):
        return Reading(None, (make_finding("name_ending", 0, 0),))
    if len(content) > MAX_BYTES:
        return Reading(None, (make_finding("too_large", 0, 0),))
    try:
        return _read(content, ending != "properties")
    except Exception:  # noqa: BLE001, S110 - nothing of a customer's file may reach an error page, whatever a parser does
        pass
    return Reading(None, (make_finding("unreadable", 0, 0),))


def facts_of(vault: CustomerVault) -> dict[str, object]:
    """What may be stored in the clear and shown of a vault, JSON-ready; times in seconds. Never a secret.

    confirm is the address that must be confirmed on the container (`kms-runtime allow-vault`), or "".
    """
    token = placeholder_of(vault.token)
    lifecycle = vault.lifecycle
    return {
        "uri": vault.uri,
        "namespace": vault.namespace,
        "token": f"placeholder ${{{token.name}}}" if token else "literal",
        "lifecycle": {
            "enabled": lifecycle.enabled,
            "refresh_before_expiry": lifecycle.refresh_before_expiry,
            "expiry_threshold": lifecycle.expiry_threshold,
        },
        "timeouts": {"connection": vault.connection_timeout, "read": vault.read_timeout},
        "trust_store": vault.trust_store,
        "key_store": vault.key_store,
        "variables": [
            {"name": one.name, "setting": setting_of(text), "optional": is_optional(setting_of(text), one)}
            for text, one in ((text, placeholder_of(getattr(vault, text))) for text in TEXTS)
            if one
        ],
        "confirm": address_to_confirm(vault),
    }


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(content: bytes, is_yaml: bool) -> Reading:
    remarks = Remarks()
    text, refused_text = _decode(content, is_yaml, remarks)
    file = None
    vault: CustomerVault | None = None
    variables: tuple[Variable, ...] = ()
    try:
        if refused_text:
            raise refused_text
        _refuse_mistaken(text, is_yaml)
        readable = _without_stray_line(text, is_yaml, remarks)
        file = read_yaml(readable) if is_yaml else read_java(readable)
        _refuse_empty(text, file)
        vault, variables = _apply(readable, file, is_yaml, remarks)
    except FileRefused as refused:
        remarks.say(*_explained(refused, text))
    findings = _findings(text, remarks, is_yaml)
    is_good = not any(one.severity == "error" for one in findings)
    return Reading(vault if is_good else None, findings, preview_of(text, file, is_yaml), variables)


def _apply(
    text: str, file: PropertyFile, is_yaml: bool, remarks: Remarks
) -> tuple[CustomerVault, tuple[Variable, ...]]:
    for code, at in file.problems:
        remarks.say(code, at)
    rules = Rules(Settings(text, file.entries, not is_yaml, remarks), remarks)
    vault = rules.vault()
    return vault, tuple(variable for _, variable in sorted(rules.variables, key=lambda one: one[0]))


def _is_wide_text(content: bytes) -> bool:
    """Whether it is text of two or four bytes a character, and not a program, a picture or an archive."""
    marked = content.startswith(_WIDE)
    for encoding in ("utf-32", "utf-16") if marked else ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        with suppress(UnicodeDecodeError):
            if "".join(content.decode(encoding).split()).isprintable():
                return True
    return False


def _decode(content: bytes, is_yaml: bool, remarks: Remarks) -> tuple[str, FileRefused | None]:
    """The file's text without its byte order mark, or what can be shown of it and why it cannot be read."""
    if content.startswith(_WIDE) or content[1:2] == b"\0" or content[:1] == b"\0":
        return "", FileRefused("encoding_utf16" if _is_wide_text(content) else "binary", WHOLE_FILE)
    if content.startswith(_BOM):
        content = content.removeprefix(_BOM)
        remarks.say("bom" if is_yaml else "bom_in_properties", 0)
    latin = content.decode("latin-1")
    try:
        text = content.decode()
    except UnicodeDecodeError as broken:
        text, at = latin, len(content[: broken.start].decode())
        if is_yaml:
            return latin, FileRefused("encoding", at)
    beyond = re.search("[^\\x00-\\x7f]", text)
    if not is_yaml and beyond and text != latin:
        remarks.say("beyond_ascii", beyond.start())
    text = text if is_yaml else latin
    return text, FileRefused("not_text", text.index("\0")) if "\0" in text else None


def _refuse_mistaken(text: str, is_yaml: bool) -> None:
    for code, pattern in _MISTAKEN:
        found = pattern.search(text)
        if found:
            raise FileRefused(code, WHOLE_FILE)
    if is_yaml and _ASSIGNMENT.search(text) and not re.search(r"^[ \t]*spring[ \t]*:", text, re.MULTILINE):
        raise FileRefused("is_properties", WHOLE_FILE)
    if not is_yaml and re.search(r"^spring\s*:[ \t]*\r?$", text, re.MULTILINE):
        raise FileRefused("is_yaml", WHOLE_FILE)


def _refuse_empty(text: str, file: PropertyFile) -> None:
    if not file.entries:
        raise FileRefused(
            "only_comments" if re.search(r"^[ \t]*[#!]", text, re.MULTILINE) else "file_empty", WHOLE_FILE
        )


def _without_stray_line(text: str, is_yaml: bool, remarks: Remarks) -> str:
    """The text with a stray first word (as `Unset`) blanked out, so that what follows is read and keeps its places."""
    found = re.match(r"\s*(?:(?:---|[#!][^\r\n]*)[\r\n]\s*)*(\S+)[ \t]*(?=[\r\n])", text)
    word = found[1] if found else ""
    if not found or not (re.fullmatch(r"[A-Za-z]+|```\w*", word) or word.lower() in STRAY_WORDS - {"---", "..."}):
        return text
    remarks.say("stray_first_line" if is_yaml else "stray_first_line_in_properties", found.start(1))
    blanked = text[: found.start(1)] + " " * len(word) + text[found.end(1) :]
    return re.sub(r"^```[ \t]*$", "   ", blanked, flags=re.MULTILINE)


def _explained(refused: FileRefused, text: str) -> tuple[str, int]:
    """Code and offset of a refusal; broken YAML is looked at for a tab or a missing space on the line or before it."""
    if refused.code != "yaml_broken":
        return refused.code, refused.at
    start = text.rfind("\n", 0, max(refused.at, 0)) + 1
    before = text.rfind("\n", 0, max(start - 1, 0)) + 1
    end = text.find("\n", refused.at) % (len(text) + 1)
    for code, pattern in (("tab_indentation", _TAB), ("colon_without_space", _TIGHT_COLON)):
        found = pattern.search(text, before, end)
        if found:
            return code, found.end(1) if found.re is _TIGHT_COLON else text.index("\t", found.start())
    return "yaml_broken", refused.at


def _findings(text: str, remarks: list[Remark], is_yaml: bool) -> tuple[Finding, ...]:
    starts = [0, *(found.end() for found in (YAML_BREAK if is_yaml else JAVA_BREAK).finditer(text))]
    findings = []
    for one in remarks:
        line = bisect_right(starts, one.at)
        column = one.at - starts[line - 1] + 1 if line else 0
        findings.append(make_finding(one.code, line, column, one.suggestion, **one.words))
    return tuple(sorted(findings, key=lambda one: (one.line, RANK[one.severity], one.column)))
