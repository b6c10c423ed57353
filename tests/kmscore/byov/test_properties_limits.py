"""No file is slow, large in memory, or an exception: hostile ones by name, arbitrary ones by Hypothesis."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kmscore.byov.customer import CustomerVault, Lifecycle
from kmscore.byov.properties import MAX_BYTES, Reading, read_properties
from kmscore.byov.properties.preview import preview_of
from tests.kmscore.byov.test_properties import CANARY, seen

CORPUS = Path(__file__).parent / "properties"
CONTENTS = [path.read_bytes() for path in sorted(CORPUS.iterdir()) if path.suffix != ".json"]
NAMES = st.sampled_from(("a.yaml", "a.properties"))
MOST_SECONDS = 0.1
MOST_BYTES = 20 * 2**20
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)  # explaining would trace, and tracing is slow
HEAD = "spring.cloud.vault:\n  uri: https://vault.example.com:8200\n  token: hvs.CAESIJ3eXampleT0kenThatIsNoneAtAll\n"


def quickly(work: Callable[[], Any]) -> Any:
    """What it gives, in no more processor time than allowed: the best of three, as others use the machine."""
    taken = []
    for _ in range(3):
        start = time.thread_time()
        result = work()
        taken.append(time.thread_time() - start)
        if taken[-1] < MOST_SECONDS:
            break
    assert min(taken) < MOST_SECONDS
    return result


def measured(name: str, content: bytes) -> Reading:
    reading: Reading = quickly(lambda: read_properties(name, content))
    assert "unreadable" not in [one.code for one in reading.findings]
    assert (reading.vault is None) == any(one.severity == "error" for one in reading.findings)
    return reading


def merge_bomb(levels: int) -> str:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, levels + 1)]
    return "\n".join(lines)


def filled(unit: str) -> str:
    return unit * (MAX_BYTES // len(unit.encode()))


HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "merge bomb of 30 levels": (merge_bomb(30), "yaml_anchor"),
    "merge keys without anchors": ("<<: [{a: 1}]\n" * 30, "yaml_merge"),
    "alias bomb": ("a: &a [x]\n" + "".join(f"b{n}: [*a, *a]\n" for n in range(30)), "yaml_anchor"),
    "alias of nothing": ("a: *b\n", "yaml_alias"),
    "depth 10,000 of lists": ("[" * 10_000, "too_deep"),
    "depth 10,000 of mappings": ("{a: " * 4_000, "too_deep"),
    "depth 80 by indentation": ("".join(" " * n + "a:\n" for n in range(80)), "too_deep"),
    "depth by dashes": (filled("- "), "not_a_mapping"),
    "number of 5,000 digits": (HEAD + "  namespace: x\n  read-timeout: " + "9" * 5000, "timeout_invalid"),
    "long time": (HEAD + "  session.lifecycle.expiry-threshold: " + "9" * 5000 + "s", "duration_invalid"),
    "date that is none": (HEAD + "  read-timeout: 2024-13-45", "timeout_invalid"),
    "20,000 keys": ("".join(f"{n}:\n" for n in range(2_900)), "too_many_nodes"),
    "200 unknown keys": ("spring.cloud.vault:\n" + "".join(f"  tokenuri{n}:\n" for n in range(90)), "unknown_key"),
    "NUL": (b"a: \0", "not_text"),
    "control character": (b"a: \x07", "not_text"),
    "UTF-16 with a mark": (HEAD.encode("utf-16"), "encoding_utf16"),
    "UTF-16 without": (HEAD.encode("utf-16-le"), "encoding_utf16"),
    "UTF-16, big end first": (HEAD.encode("utf-16-be"), "encoding_utf16"),
    "UTF-32": (HEAD.encode("utf-32"), "encoding_utf16"),
    "UTF-32 without a mark": (HEAD.encode("utf-32-be"), "encoding_utf16"),
    "a program": (b"\0asm\x01\0\0\0\x01\x04\x01\x60", "binary"),
    "an icon": (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0", "binary"),
    "noise with a mark": (b"\xff\xfe\x00\xd8\x01\x02\x03", "binary"),
    "Latin-1": ("a: ü".encode("latin-1"), "encoding"),
    "lone surrogate": ('a: "\\ud800"\n', "uri_missing"),
    "tag that makes an object": ("!!python/object/apply:os.system ['true']", "yaml_tag"),
    "anchor in a key": ("? &a b\n: c", "yaml_anchor"),
    "brackets after a colon": (filled("[a: b, "), "too_deep"),
    "line breaks in quotes": ('"' + "\n" * 16_000, "quote_open"),
    "blank lines in a block": ("a: |\n" + " \n" * 8_000, "outside"),
    "one long word": ("a: " + "x" * 16_000, "outside"),
    "one long key": ("spring.cloud.vault." + "a." * 8_000 + ": 1", "not_a_mapping"),
    "only dots": ("." * 1000 + ": 1", "uri_missing"),
    "directives": ("%a b\n" * 3_000, "yaml_broken"),
    "words": ("a b\n" * 4_000, "not_a_mapping"),
    "placeholders": ("spring.cloud.vault.uri: " + "${" * 8_000, "placeholder_nested"),
    "placeholders of defaults": ("spring.cloud.vault.uri: ${A" + ":" * 15_000 + "}", "uri_scheme"),
    "an address of brackets": ("spring.cloud.vault.uri: 'https://" + "[" * 15_000 + "'", "uri_invalid"),
    "an address of percents": ("spring.cloud.vault.uri: https://" + "%41" * 5_000, "uri_host"),
    "angles": ("spring.cloud.vault.token: '" + "<" * 16_000 + "'", "token_not_one_word"),
    "comment of names": ("# " + "a:" * 8_000, "only_comments"),
    "comment of dots": ("# " + "a." * 8_000, "only_comments"),
    "comment of tokens": ("# " + "s." * 8_000, "only_comments"),
    "spaces": (filled(" "), "file_empty"),
    "carriage returns": (filled("\r"), "file_empty"),
    "tabs": (filled("\t"), "yaml_broken"),
    "tight colons": ("a:b\n" * 4_000, "not_a_mapping"),
    "paths": ('path "' * 2_700, "not_a_mapping"),
    "quotes of keys": ('"keys" ' * 2_300, "not_a_mapping"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_yaml_file_is_a_finding_and_quick(name: str) -> None:
    content, code = HOSTILE[name]
    reading = measured("a.yaml", content.encode() if isinstance(content, str) else content)
    assert code in [one.code for one in reading.findings]
    assert reading.vault is None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_quick_in_the_other_syntax_too(name: str) -> None:
    content = HOSTILE[name][0]
    measured("a.properties", content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(
    "unit", ["\\", "\\\n", "\\u0041", "a\\\n ", "=", "a=b\n", "# a\n", "\\\r", " \\", "a b c ", "é"]
)
def test_a_properties_file_of_one_kind_of_thing_is_quick(unit: str) -> None:
    measured("a.properties", filled(unit).encode("latin-1"))


@pytest.mark.parametrize(
    "unit", ["a.", "a-", "s.a", "hvs.", "a:", "a=", "x y", "/", "${", "}{", "token:", "# ", "\u2028", "b.b.b.b.b "]
)
def test_the_preview_of_an_unread_file_is_quick(unit: str) -> None:
    text = filled(unit)
    quickly(lambda: preview_of(text, None, True))


def test_a_typical_file_takes_less_than_three_milliseconds() -> None:
    content = (CORPUS / "seed-filled.yaml").read_bytes()
    taken = []
    for _ in range(20):
        start = time.thread_time()
        read_properties("application.yaml", content)
        taken.append(time.thread_time() - start)
    assert min(taken) < 0.003


@pytest.mark.parametrize("name", HOSTILE)
def test_no_file_takes_more_than_20_mb(name: str) -> None:
    content = HOSTILE[name][0]
    for ending in ("a.yaml", "a.properties"):
        tracemalloc.start()
        try:
            read_properties(ending, content.encode() if isinstance(content, str) else content)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MOST_BYTES


# -- arbitrary files ---------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "spring",
        "cloud",
        "vault",
        "uri",
        "token",
        "session",
        "lifecycle",
        "ssl",
        "trust-store",
        "namespace",
        "host",
        "port",
    ]
    + [
        ".",
        ":",
        ": ",
        "=",
        " ",
        "  ",
        "\n",
        "\n  ",
        "\n    ",
        "\t",
        "-",
        "- ",
        "#",
        "!",
        "\\",
        "\\u",
        "${",
        "}",
        "{",
        "[",
        "]",
    ]
    + [
        "'",
        '"',
        "|",
        ">",
        "&a",
        "*a",
        "<<",
        "!!",
        "---",
        "...",
        "?",
        ",",
        "%",
        "@",
        "`",
        "https://",
        "8200",
        "20s",
        "PT",
        "~",
    ]
    + [
        "VAULT_URI",
        "hvs.",
        "file:",
        "classpath:",
        "é",
        "\x85",
        "\u2028",
        "\ufeff",
        "Unset",
        "path",
        "keys",
        "0x",
        "1e9",
    ]
)


@settings(max_examples=150, deadline=None, phases=PHASES)
@given(NAMES, st.binary(max_size=600))
def test_any_bytes_are_read(name: str, content: bytes) -> None:
    measured(name, content)


@settings(max_examples=150, deadline=None, phases=PHASES)
@given(NAMES, st.text(max_size=600))
def test_any_text_is_read(name: str, text: str) -> None:
    measured(name, text.encode("utf-8", "surrogatepass"))


@settings(max_examples=400, deadline=None, phases=PHASES)
@given(NAMES, st.lists(WORDS, max_size=120).map("".join))
def test_anything_like_a_file_is_read(name: str, text: str) -> None:
    measured(name, text.encode())


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(NAMES, st.lists(WORDS, min_size=1, max_size=6).map("".join))
def test_anything_repeated_up_to_the_limit_is_read(name: str, unit: str) -> None:
    measured(name, filled(unit).encode())


@settings(max_examples=400, deadline=None, phases=PHASES)
@given(st.data())
def test_a_changed_file_of_the_corpus_is_read(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(CONTENTS))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 20)))
        content = content[:start] + data.draw(WORDS).encode() + content[end:]
    measured(data.draw(NAMES), content)


@settings(max_examples=400, deadline=None, phases=PHASES)
@given(NAMES, st.lists(WORDS, max_size=40), st.integers(0, 40))
def test_a_token_anywhere_in_anything_is_never_seen(name: str, words: list[str], at: int) -> None:
    text = "".join([*words[:at], CANARY, *words[at:]])
    assert CANARY[4:] not in seen(read_properties(name, text.encode()))


@settings(max_examples=50, deadline=None, phases=PHASES)
@given(st.text(max_size=40))
def test_any_name_is_a_name(name: str) -> None:
    read_properties(name, HEAD.encode())


# -- round trips -------------------------------------------------------------------------------------------------------

hosts = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8}){0,2}", fullmatch=True)
names = st.from_regex(r"[A-Z][A-Z_]{1,12}", fullmatch=True).map(lambda name: f"${{{name}}}")
paths = st.from_regex(r"/[a-z]{1,8}(/[a-z]{1,8}){0,2}\.pem", fullmatch=True)
tokens = st.from_regex(r"hvs\.[A-Za-z0-9]{24,40}", fullmatch=True)
times = st.integers(1, 100_000).map(lambda number: number / 1000)
vaults = st.builds(
    CustomerVault,
    uri=st.one_of(names, st.builds("https://{}:{}".format, hosts, st.integers(1, 65535))),
    token=st.one_of(names, tokens),
    namespace=st.one_of(st.just(""), names, st.from_regex(r"z[a-z]{0,5}(/[a-z]{1,5})?", fullmatch=True)),
    connection_timeout=times,
    read_timeout=times,
    lifecycle=st.builds(Lifecycle, st.booleans(), times, times),
    trust_store=st.one_of(st.just(""), names, paths),
    key_store=st.one_of(names, paths),
    key_store_password=st.one_of(st.just(""), names, st.from_regex(r"[A-Za-z0-9 !$%#:=,]{0,10}x", fullmatch=True)),
)
SPELLINGS: dict[str, Callable[[str], str]] = {
    "kebab": lambda key: key,
    "underscore": lambda key: key.replace("-", "_"),
    "camel": lambda key: "".join(part if not n else part.title() for n, part in enumerate(key.split("-"))),
    "upper": str.upper,
}


def milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def written(vault: CustomerVault) -> dict[str, str]:
    lifecycle = vault.lifecycle
    return {
        "uri": vault.uri,
        "token": vault.token,
        "namespace": vault.namespace,
        "connection-timeout": milliseconds(vault.connection_timeout),
        "read-timeout": milliseconds(vault.read_timeout),
        "session.lifecycle.enabled": "yes" if lifecycle.enabled else "no",
        "session.lifecycle.refresh-before-expiry": milliseconds(lifecycle.refresh_before_expiry) + "ms",
        "session.lifecycle.expiry-threshold": f"PT{lifecycle.expiry_threshold:.3f}S",
        "ssl.trust-store": vault.trust_store,
        "ssl.key-store": vault.key_store,
        "ssl.key-store-password": vault.key_store_password,
    }


def as_nested_yaml(values: dict[str, str], spell: Callable[[str], str]) -> str:
    lines, open_groups = [f"{spell('spring')}:", "  cloud:", "    vault:"], []
    for key, value in values.items():
        *groups, last = key.split(".")
        if groups != open_groups:
            lines += [f"{' ' * (6 + 2 * n)}{spell(group)}:" for n, group in enumerate(groups)]
        open_groups = groups
        lines.append(f"{' ' * (6 + 2 * len(groups))}{spell(last)}: {quoted(value)}")
    return "\n".join(lines)


def as_dotted_yaml(values: dict[str, str], spell: Callable[[str], str]) -> str:
    return "\n".join(f"spring.cloud.vault.{spell(key)}: {quoted(value)}" for key, value in values.items())


def as_properties(values: dict[str, str], spell: Callable[[str], str]) -> str:
    return "\n".join(f"spring.cloud.vault.{spell(key)} = {escaped(value)}" for key, value in values.items())


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'" if value else ""


def escaped(value: str) -> str:
    return "".join(f"\\{c}" if c in "=: #!\\" else c for c in value)


@settings(max_examples=100, deadline=None, phases=PHASES)
@given(vaults, st.sampled_from(sorted(SPELLINGS)))
def test_the_same_settings_are_the_same_vault_however_they_are_written(vault: CustomerVault, spelling: str) -> None:
    values, spell = written(vault), SPELLINGS[spelling]
    for name, text in (
        ("a.yaml", as_nested_yaml(values, spell)),
        ("a.yml", as_dotted_yaml(values, spell)),
        ("a.properties", as_properties(values, spell)),
    ):
        reading = read_properties(name, text.encode())
        assert [one.code for one in reading.findings if one.severity == "error"] == []
        assert reading.vault == without_blanks(vault, name)


def without_blanks(vault: CustomerVault, name: str) -> CustomerVault:
    """Values of .properties are trimmed at both ends."""
    password = vault.key_store_password.strip() if name.endswith("s") else vault.key_store_password
    return CustomerVault(**{one: getattr(vault, one) for one in vault.__slots__} | {"key_store_password": password})
