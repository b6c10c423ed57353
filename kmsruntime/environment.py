"""Which values a program gets, and under which environment names.

Pure but for opening values. A name that two values would share, that a known program loader or interpreter listens to, or
that the environment has already is refused, never resolved silently: names come from the portal. No list knows every
program's variables, so only `--map` and `--only` leave the choice of names with whoever runs the command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kmsruntime.errors import SelectionRefused, ValueMissing, ValueUnusable, listed
from kmsruntime.store.format import Store
from kmsruntime.store.index import IndexEntry

_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED: Final = re.compile(
    # shells, and what every program starts with
    r"PATH|HOME|USER|LOGNAME|TMPDIR|IFS|ENV|SHELL|SHELLOPTS|BASH.*|ZDOTDIR|FPATH|PS4|CDPATH|PROMPT_COMMAND|EDITOR|VISUAL|"
    r"PAGER|MANPAGER|BROWSER|LESS|LESSOPEN|LESSCLOSE|TERMINFO.*|TERMCAP|XDG_.*|DBUS_.*|LC_.*|SUDO_.*|SYSTEMD_.*|LISTEN_.*|"
    r"NOTIFY_SOCKET|CREDENTIALS_DIRECTORY|"
    # this program, and others that talk to a vault
    r"KMS_.*|VAULT_.*|BAO_.*|AUTH_TOKEN|"
    # the loader and the C library
    r"LD_.*|DYLD_.*|GLIBC_.*|MALLOC_.*|GCONV_PATH|LOCPATH|NLSPATH|LOCALDOMAIN|RES_OPTIONS|HOSTALIASES|KRB5.*|SHLIB_PATH|"
    r".*SAN_OPTIONS|GCC_.*|(COMPILER|LIBRARY|C_INCLUDE|CPLUS_INCLUDE)_PATH|PKG_CONFIG.*|"
    # languages and their build tools
    r"PYTHON.*|PIP_.*|UV_.*|VIRTUAL_ENV|DJANGO_SETTINGS_MODULE|GUNICORN_CMD_ARGS|PERL.*|RUBY.*|GEM_HOME|GEM_PATH|BUNDLE_.*|"
    r"NODE_.*|NPM_CONFIG_.*|DENO_.*|BUN_.*|ELECTRON_.*|LUA_.*|TCLLIBPATH|PHPRC|PHP_INI_SCAN_DIR|COMPOSER_.*|R_.*|"
    r"RUSTC_.*|RUSTFLAGS|RUSTUP_.*|CARGO_(HOME|BUILD_.*|TARGET_.*)|GOFLAGS|GOPATH|GOROOT|GOPROXY|"
    r"DOTNET_.*|CORECLR_.*|COR_.*|COMPLUS_.*|MONO_.*|.*_OPTS|.*JAVA_OPTIONS|JAVA_.*|JDK_.*|JRE_.*|CLASSPATH|CATALINA_.*|"
    r"(MAVEN|GRADLE|ANT|SBT)_(ARGS|HOME|USER_HOME)|ERL_.*|GUILE_.*|JULIA_.*|"
    # libraries that load code, configuration or trusted certificates
    r"OPENSSL_.*|SSL_CERT_.*|SSLKEYLOGFILE|GNUTLS_.*|NSS_.*|CURL_CA_BUNDLE|CURL_HOME|REQUESTS_CA_BUNDLE|SASL_.*|"
    r"GTK_.*|GIO_.*|GST_.*|QT_.*|MAGICK_.*|"
    # tools that read their configuration from a named file, or run others
    r"GIT_.*|SSH_.*|GPG_.*|PGSERVICEFILE|PGSYSCONFDIR|PGPASSFILE|PSQLRC|PSQL_.*|MYSQL_(HOME|GROUP_SUFFIX|TEST_LOGIN_FILE)|"
    r"AWS_(CONFIG_FILE|CA_BUNDLE|SHARED_CREDENTIALS_FILE|ENDPOINT_URL.*|CONTAINER_.*|WEB_IDENTITY_TOKEN_FILE)|KUBECONFIG|"
    r"DOCKER_(HOST|CONFIG|CONTEXT|CERT_PATH)|TF_CLI_.*|TF_PLUGIN_.*|ANSIBLE_.*|MAKEFLAGS|MAKEFILES|.*_PROXY"
)


PROPERTY: Final = "property"
_OMITTED: Final = {
    "missing": "is missing, nobody has entered it in the portal",
    "lost": "has to be entered again in the portal",
}


@dataclass(frozen=True, slots=True)
class EnvVar:
    """One environment variable for the program: its name and value, and what people call its source."""

    name: str
    value: bytes = field(repr=False)
    source: str


def label(held: IndexEntry) -> str:
    """What people call it: "Orders/password", "property/region"."""
    return f"{held.name}/{held.path[-1]}" if held.path[0] == "connection" else f"property/{held.path[-1]}"


def default_name(held: IndexEntry) -> str:
    """ORDERS_DB_PASSWORD for the field password of the connection "Orders DB"; PROPERTY_REGION for a property."""
    name = re.sub(r"[^A-Z0-9]", "_", label(held).upper())
    return f"_{name}" if name[:1].isdigit() else name


def find(store: Store, selector: str) -> IndexEntry:
    """The one entry a selector ("Orders/password", "<connection id>/password", "property/region") names.

    Raises ValueMissing, SelectionRefused when several have that name.
    """
    found = [held for held in store.held if _answers(held, selector)]
    if not found:
        raise ValueMissing(
            "value_missing",
            f"This container holds no {selector!r}; kms-runtime status --json lists what it holds, as CONNECTION/FIELD and"
            " property/NAME.",
        )
    if len(found) > 1:
        ids = listed([held.path[1] for held in found])
        raise SelectionRefused("value_ambiguous", f"{selector!r} names several connections: use the id, one of {ids}.")
    return found[0]


def _answers(held: IndexEntry, selector: str) -> bool:
    """A connection that is called "property" answers by its id only: that word names what is of no connection."""
    return (selector == label(held) and _group(held) != "") or (
        held.path[0] == "connection" and selector == "/".join(held.path[1:])
    )


def _group(held: IndexEntry) -> str:
    """The word that names it with others: its connection, or "property"; "" for a connection of that very name."""
    if held.path[0] != "connection":
        return PROPERTY
    return "" if held.name == PROPERTY else held.name


def value_of(store: Store, held: IndexEntry) -> bytes:
    """Raises ValueMissing for an entry without a value, StoreDamaged."""
    if held.form == "missing":
        raise ValueMissing("value_missing", f"{label(held)} is missing: enter it in the portal.")
    if held.form == "lost":
        raise ValueMissing(
            "value_lost",
            f"The portal's vault has lost the key of {label(held)}: it has to be entered again in the portal.",
        )
    return held.plain.encode() if held.form == "plain" else store.open(held)


def variables(
    store: Store,
    mapped: Sequence[tuple[str, str]],
    only: Sequence[str],
    present: Mapping[str, str],
    say: Callable[[str], None],
) -> list[EnvVar]:
    """The variables for a program.

    mapped: (environment name, selector) pairs; what is mapped has that name instead of its default one. only: selectors,
    or connection names, or "property"; nothing else is given besides what is mapped. present: the environment so far.
    Raises SelectionRefused, ValueMissing, ValueUnusable, StoreDamaged.
    """
    chosen: list[tuple[str, IndexEntry, bool]] = []
    taken = set()
    for name, selector in mapped:
        held = find(store, selector)
        taken.add(held.path)
        chosen.append((_checked_name(name), held, True))
    for held in store.held:
        if held.path not in taken and (not only or _is_chosen(held, only)):
            chosen.append((default_name(held), held, False))
    for selector in only:
        if not any(_is_chosen(held, [selector]) for held in store.held):
            find(store, selector)
    kept = [one for one in chosen if not _is_omitted(one[1], asked_for=one[2], say=say)]
    _refuse_shared([(name, held) for name, held, _ in kept])
    for name, held, asked_for in kept:
        if not asked_for:
            _refuse_reserved(name, held, present)
    return [EnvVar(name, _fitting(name, label(held), value_of(store, held)), label(held)) for name, held, _ in kept]


def parsed_map(text: str) -> tuple[str, str]:
    """ENVNAME=Connection/field. Raises SelectionRefused."""
    name, equals, selector = text.partition("=")
    if not equals or not selector:
        raise SelectionRefused("map_invalid", "A --map is not of the form ENVNAME=Connection/field.")
    return name, selector


def _is_chosen(held: IndexEntry, only: Sequence[str]) -> bool:
    return any(_answers(held, selector) or selector == _group(held) for selector in only)


def _is_omitted(held: IndexEntry, *, asked_for: bool, say: Callable[[str], None]) -> bool:
    """What has no value here is left out and said, never replaced by a placeholder; asked for by name it is an error."""
    if held.form not in _OMITTED or asked_for:
        return False
    say(f"{label(held)} {_OMITTED[held.form]}: left out.")
    return True


def _checked_name(name: str) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise SelectionRefused(
            "name_invalid", "What a --map begins with cannot be the name of an environment variable."
        )
    return name


def _refuse_shared(chosen: Sequence[tuple[str, IndexEntry]]) -> None:
    first: dict[str, str] = {}
    for name, held in chosen:
        if name in first:
            raise ValueUnusable(
                "names_collide",
                f"{first[name]} and {label(held)} would both be {name}: give one a name with --map, or choose with --only.",
            )
        first[name] = label(held)


def _refuse_reserved(name: str, held: IndexEntry, present: Mapping[str, str]) -> None:
    if _RESERVED.fullmatch(name):
        why = "a name that decides how programs are run"
    elif name in present:
        why = "set in the environment already"
    else:
        return
    raise ValueUnusable(
        "name_reserved",
        f"{label(held)} would be {name}, {why}: give it a name with --map, or choose others with --only.",
    )


def _fitting(name: str, source: str, value: bytes) -> bytes:
    if b"\0" in value:
        raise ValueUnusable(
            "value_has_nul",
            f"{source} holds a NUL character, which no environment variable can: leave it out of {name}.",
        )
    # Linux refuses a single "NAME=value" of more than 128 KiB (MAX_ARG_STRLEN) at exec, with an unhelpful message.
    if len(value) + len(name) + 2 > 128 * 1024:
        raise ValueUnusable("value_too_long", f"{source} is too long for an environment variable: read it with get.")
    return value
