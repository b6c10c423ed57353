"""What the linter of properties files can say: every finding's severity, sentence and mend, by its code.

Pure. The sentences are all here, so that none is made from what a file holds; the words filled in are names of settings,
numbers that were read and addresses that were accepted. A secret's text is never one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning", "note"]
RANK: Final[dict[str, int]] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark about a file. line and column count from 1; line 0 is the whole file, column 0 none in particular.

    problem and mend are one sentence each (mend "" when there is nothing to do); suggestion is the key that may have been
    meant, or "".
    """

    severity: Severity
    code: str
    line: int
    column: int
    problem: str
    mend: str = ""
    suggestion: str = ""


def make_finding(code: str, line: int, column: int, suggestion: str = "", **words: str) -> Finding:
    """The finding of a code at a place. words fill the sentences and must hold nothing secret. Raises KeyError."""
    severity, problem, mend = SENTENCES[code]
    return Finding(severity, code, line, column, problem.format(**words), mend.format(**words), suggestion)


_PEM: Final = (
    "Make a PEM file, for example with `keytool -importkeystore -srckeystore store.jks -destkeystore store.p12 "
    "-deststoretype pkcs12` and `openssl pkcs12 -in store.p12 -out store.pem`."
)
_ENVIRONMENT: Final = "Use a whole placeholder, as in `uri: ${{VAULT_URI}}`, or write the value itself."

SENTENCES: Final[dict[str, tuple[Severity, str, str]]] = {
    # The file as a whole
    "name_ending": (
        "error",
        "The file's name ends with none of .yaml, .yml and .properties, so it is not known how to read it.",
        "Give the file one of these endings.",
    ),
    "too_large": ("error", "The file is larger than 16 KiB.", "Keep only what stands under spring.cloud.vault."),
    "encoding": ("error", "The file is not UTF-8 text.", "Save it as UTF-8."),
    "encoding_utf16": ("error", "The file is UTF-16 or UTF-32 text.", "Save it as UTF-8 without a byte order mark."),
    "binary": (
        "error",
        "The file is not a text file.",
        "Choose the properties file itself: YAML or .properties, as UTF-8.",
    ),
    "not_text": ("error", "The file holds a character that no text has.", "Remove it, or write the file anew."),
    "bom": ("note", "The file begins with a byte order mark, which is skipped.", "Save it as UTF-8 without one."),
    "bom_in_properties": (
        "error",
        "The file begins with a byte order mark, which would become part of the first key.",
        "Save it without a byte order mark.",
    ),
    "beyond_ascii": (
        "warning",
        "A .properties file is read as ISO-8859-1, so this letter becomes another.",
        "Write it as \\uXXXX.",
    ),
    "file_empty": ("error", "The file is empty.", "Begin with the example."),
    "only_comments": ("error", "The file holds comments only.", "Remove the # before the settings."),
    "is_policy": (
        "error",
        "This is a policy for the vault's administrator, not the properties file.",
        "Write the policy to the vault, and upload the file with spring.cloud.vault settings.",
    ),
    "is_key_file": (
        "error",
        "This looks like the vault's own keys or its root token; it was not stored.",
        "Keep that file offline, and upload the file with spring.cloud.vault settings.",
    ),
    "is_token_answer": (
        "error",
        "This is what the vault answered when a token was made, not the properties file.",
        "Put the client_token under spring.cloud.vault.token.",
    ),
    "is_certificate": (
        "error",
        "This is a certificate or a private key, not the properties file.",
        "Copy it to the container and name its path under spring.cloud.vault.ssl.trust-store.",
    ),
    "is_properties": (
        "error",
        "The lines are written as key=value, but the file's name says YAML.",
        "Let the name end with .properties.",
    ),
    "is_yaml": (
        "error",
        "The lines are indented as in YAML, but the file's name says .properties.",
        "Let the name end with .yaml.",
    ),
    "unreadable": ("error", "The file cannot be read.", "Begin again with the example."),
    # Its syntax
    "stray_first_line": (
        "error",
        "The first line is a stray word, as left by copying an example.",
        "Remove the line.",
    ),
    "stray_first_line_in_properties": (
        "warning",
        "The first line is a stray word, as left by copying an example; it is read as a key.",
        "Remove the line.",
    ),
    "tab_indentation": ("error", "YAML cannot be indented with a tab.", "Use spaces."),
    "colon_without_space": ("error", "In YAML a space must follow the colon after a key.", "Write `key: value`."),
    "yaml_broken": (
        "error",
        "The YAML cannot be read from here on.",
        "Look at the indentation and the quotes of this line and the one before.",
    ),
    "quote_open": (
        "error",
        "The quote that opens here is not closed as YAML expects it.",
        "Close it on the same line; within double quotes write a backslash as two.",
    ),
    "several_documents": (
        "error",
        "The file holds several documents; only one is accepted.",
        "Remove the separator and what does not belong to this container.",
    ),
    "yaml_alias": ("error", "Aliases (*) are not accepted.", "Write the value itself, in quotes if it begins with *."),
    "yaml_anchor": ("error", "Anchors (&) are not accepted.", "Remove it, or quote a value that begins with &."),
    "yaml_merge": ("error", "Merge keys (<<) are not accepted.", "Write the settings themselves."),
    "yaml_tag": ("error", "Tags (!) are not accepted.", "Remove it, or quote a value that begins with !."),
    "too_deep": (
        "error",
        "Settings are nested more than eight levels deep.",
        "Keep what stands under spring.cloud.vault.",
    ),
    "too_many_nodes": (
        "error",
        "The file holds more than 200 keys and values.",
        "Keep what stands under spring.cloud.vault.",
    ),
    "key_not_text": ("error", "A key must be one word.", "Write `key: value`."),
    "not_a_mapping": ("error", "The file holds no `key: value` lines.", "Begin with the example."),
    "escape_malformed": (
        "error",
        "After \\u four hexadecimal digits must follow.",
        "Double the backslash when one is meant.",
    ),
    # Keys
    "duplicate_key": ("error", "The key stands here for the second time.", "Keep one of them."),
    "duplicate_in_properties": ("warning", "The key stands here again; this last one counts.", "Keep one of them."),
    "ambiguous_key": (
        "error",
        "{setting} is set twice, in two spellings, and either could count.",
        "Keep one of them.",
    ),
    "unknown_key": ("warning", "This is no setting under spring.cloud.vault, and is ignored.", "Remove or correct it."),
    "outside": ("warning", "This is not under spring.cloud.vault, and is ignored.", "Remove it."),
    "environment_spelling": (
        "warning",
        "This spelling works for environment variables only; in a file it is ignored.",
        "Write it with dots.",
    ),
    "not_used": ("note", "{setting} is known, but is not used here.", ""),
    "secret_leases": (
        "note",
        "config.lifecycle is about leases of secrets, and is not used here.",
        "For the token write session.lifecycle.",
    ),
    "list_value": ("error", "{setting} takes one value, not a list.", "Write the value itself."),
    "mapping_value": ("error", "{setting} takes one value, not settings of its own.", "Write the value itself."),
    "group_value": ("error", "{setting} takes settings below it, not a value.", "Indent what belongs to it below it."),
    # Placeholders
    "placeholder_without_dollar": (
        "error",
        "A placeholder begins with a dollar sign, which is missing here.",
        "Write `${{NAME}}`.",
    ),
    "placeholder_malformed": (
        "error",
        "This looks like a variable, but is no placeholder the container would resolve.",
        "Write `${{NAME}}` or `${{NAME:default}}`.",
    ),
    "placeholder_in_text": (
        "error",
        "A placeholder must be the whole value: nothing of the container's environment is mixed into a longer text.",
        _ENVIRONMENT,
    ),
    "placeholder_nested": (
        "error",
        "A placeholder cannot stand inside another one; only whole values are resolved.",
        _ENVIRONMENT,
    ),
    "placeholder_not_here": (
        "error",
        "{setting} takes no placeholder; only addresses, names of files, the namespace and secrets may be left to the "
        "container.",
        "Write the value itself.",
    ),
    "placeholder_holds_token": (
        "error",
        "What stands between the braces looks like a token, not like the name of a variable.",
        "Write the token without ${{ and }}, or the variable's name.",
    ),
    "placeholder_default_secret": (
        "error",
        "A secret must not be the default of a placeholder: it would stand in the open.",
        "Write `${{{name}}}` without a default, or the secret itself without a placeholder.",
    ),
    "placeholder_default_empty": (
        "warning",
        "With an empty default {setting} is missing unless the container has the variable {name}.",
        "Remove the colon, and set {name} on the container.",
    ),
    "placeholder_not_allowed": (
        "warning",
        "The container does not resolve {name} unless it was allowed there.",
        "Run `kms-runtime allow-vault --allow-env {name}` on the container.",
    ),
    "confirm_vault": (
        "warning",
        "The container sends what it holds itself only to a vault that was named on it, and waits until then.",
        "Run `kms-runtime allow-vault {address}` on the container.",
    ),
    # Address
    "uri_missing": ("error", "The vault's address is missing.", "Set spring.cloud.vault.uri."),
    "uri_wins": ("note", "{setting} is not used, because uri is set.", ""),
    "uri_invalid": ("error", "This is not an address.", "Write it as https://vault.example.com:8200."),
    "uri_scheme": ("error", "The address must begin with https://.", "Write it as https://vault.example.com:8200."),
    "uri_host": (
        "error",
        "The address names no host that can be used.",
        "Write it as https://vault.example.com:8200; a name beyond ASCII in its xn-- form.",
    ),
    "uri_port": ("error", "The port must be a number from 1 to 65535.", "Most vaults listen on 8200."),
    "uri_userinfo": (
        "error",
        "The address holds a user name or password, which a vault does not read.",
        "Remove everything up to the @.",
    ),
    "uri_query": ("error", "The address must not hold ? or #.", "End it after the port."),
    "uri_http": (
        "error",
        "With http the token and the data keys would cross the network in the open.",
        "Use https.",
    ),
    "uri_http_loopback": (
        "warning",
        "With http nothing is encrypted; that is accepted for the container's own machine only.",
        "Use https where you can.",
    ),
    "uri_no_port": (
        "warning",
        "Without a port the container connects to {port}; most vaults listen on 8200.",
        "Write the port, even if it is {port}.",
    ),
    "uri_path": (
        "warning",
        "The path of the address takes the place of the prefix v1; a vault without a proxy before it answers to /v1 only.",
        "Remove the path, unless a proxy needs it.",
    ),
    "host_invalid": ("error", "This is not the name of a host.", "Write the name or the IP address alone."),
    # Token
    "authentication": (
        "error",
        "The container signs in with a token only.",
        "Write `authentication: token`, or remove the line.",
    ),
    "authentication_unknown": (
        "error",
        "This is no way to sign in.",
        "Write `authentication: token`, or remove the line.",
    ),
    "token_missing": (
        "error",
        "The token is missing.",
        "Set spring.cloud.vault.token, or leave it to the container: `token: ${{AUTH_TOKEN}}`.",
    ),
    "token_not_one_word": (
        "error",
        "The token holds a space, a quote, a line break or another character that no token has.",
        "Copy the token again, without what stands around it.",
    ),
    "token_root": (
        "error",
        "This looks like a root token, which may do everything and never ends.",
        "Make a token with the policy of this Atom.",
    ),
    "token_batch": (
        "error",
        "This is a batch token, which cannot be renewed.",
        "Make a periodic service token.",
    ),
    "token_recovery": (
        "error",
        "This is a recovery token, which can make no data keys.",
        "Make a periodic service token.",
    ),
    "token_misplaced": (
        "error",
        "What stands here looks like a token, and this is not the place for one.",
        "Set it under spring.cloud.vault.token; if the file was shown to others, revoke the token.",
    ),
    "unfilled_sample": (
        "error",
        "This is the example's text, not a value of yours.",
        "Write the value, or a placeholder such as `${{VAULT_URI}}`.",
    ),
    # Namespace
    "namespace_normalised": ("note", "The namespace is read {meaning}.", ""),
    "namespace_invalid": (
        "error",
        "The namespace holds a character that no namespace has.",
        "Write it as admin or admin/team.",
    ),
    # Lifecycle and timeouts
    "boolean_invalid": ("error", "{setting} must be true or false.", "Write true or false."),
    "duration_invalid": (
        "error",
        "This is not a time: one number and one unit without a space, or ISO-8601.",
        "Write it as 20s, 500ms, 1m or PT1M30S.",
    ),
    "duration_bare": (
        "warning",
        "A bare number is milliseconds: this is {seconds} s.",
        "Write the unit, as in 20s.",
    ),
    "duration_negative": ("error", "{setting} must not be negative.", "Write it as 20s."),
    "duration_long": ("error", "{setting} is longer than a year.", "Write it as 20s."),
    "threshold_not_above_refresh": (
        "warning",
        "expiry-threshold ({threshold} s) should be longer than refresh-before-expiry ({refresh} s): else a token near "
        "its end is renewed every second instead of being given up.",
        "Write for example expiry-threshold: 20s and refresh-before-expiry: 10s.",
    ),
    "lifecycle_disabled": (
        "warning",
        "With session.lifecycle.enabled off the token is never renewed, and ends with its time to live.",
        "Write `enabled: true`, or remove the line.",
    ),
    "timeout_invalid": (
        "error",
        "{setting} is a whole number of milliseconds, without a unit.",
        "Write it as 5000.",
    ),
    "timeout_range": ("error", "{setting} must be from 1 to 600000 milliseconds.", "Write it as 5000."),
    # TLS
    "store_classpath": (
        "error",
        "A store on the class path cannot be read by the container.",
        "Copy it to the container as a PEM file and name its path.",
    ),
    "store_url": ("error", "A store must be a file on the container, not a URL.", "Name the file's path."),
    "store_inline": (
        "error",
        "The store's text stands here; what is needed is the path of a file on the container.",
        "Save it on the container and name its path.",
    ),
    "store_not_pem": ("error", "Only PEM files can be read here.", _PEM),
    "store_invalid": (
        "error",
        "The path holds a character that no path should have; in .properties a backslash must be doubled.",
        "Write the path with / or double each backslash.",
    ),
    "store_relative": (
        "warning",
        "The path is relative, so it depends on where the container's program was started.",
        "Write the whole path.",
    ),
    "store_password_not_used": ("note", "A PEM trust store has no password; it is not used.", "Remove the line."),
}
