"""The linter of properties files, against a corpus of files with what it must say about each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kmscore.byov import properties
from kmscore.byov.customer import CustomerVault, decode_customer_vault
from kmscore.byov.properties import MAX_BYTES, Reading, facts_of, findings, read_properties
from kmscore.byov.properties.preview import MASK

CORPUS = Path(__file__).parent / "properties"
EXPECTED = json.loads((CORPUS / "expected.json").read_text())
FILES = sorted(path.name for path in CORPUS.iterdir() if path.name != "expected.json")
TOKEN = "hvs.CAESIJ3eXampleT0kenThatIsNoneAtAll"
CANARY = "hvs.CAESICanaryT0kenThatMustNeverBeSeen"
GOOD = f"spring.cloud.vault:\n  uri: https://vault.example.com:8200\n  token: {TOKEN}\n"


def read(name: str) -> Reading:
    return read_properties(name, (CORPUS / name).read_bytes())


def codes(reading: Reading) -> list[str]:
    return [one.code for one in reading.findings]


def settings(vault: CustomerVault | None) -> dict[str, object] | None:
    return (
        None if vault is None else {k: v for k, v in json.loads(vault.encode()).items() if k not in ("token", "format")}
    )


def seen(reading: Reading) -> str:
    """Everything of a reading that may be shown or kept in the clear."""
    texts = [one.text for one in reading.preview]
    texts += [f"{one.code} {one.problem} {one.mend} {one.suggestion}" for one in reading.findings]
    facts = json.dumps(facts_of(reading.vault)) if reading.vault else ""
    return "\n".join([*texts, facts, repr(reading.vault), repr(reading.findings)])


def test_every_file_of_the_corpus_has_its_expectation() -> None:
    assert sorted(EXPECTED) == FILES
    assert len(FILES) >= 70


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_what_it_must(name: str) -> None:
    reading = read(name)
    said = [[one.code, one.line, one.column, one.severity] for one in reading.findings]
    assert said == EXPECTED[name]["findings"]
    assert settings(reading.vault) == EXPECTED[name].get("settings")
    assert [one.suggestion for one in reading.findings if one.suggestion] == EXPECTED[name].get("suggestions", [])


@pytest.mark.parametrize("name", FILES)
def test_a_place_is_in_the_file(name: str) -> None:
    lines = (CORPUS / name).read_bytes().decode("utf-8-sig", "replace").splitlines() + [""]
    for one in read(name).findings:
        assert (one.line == 0) == (one.column == 0)
        assert one.line <= len(lines)
        assert not one.line or one.column <= len(lines[one.line - 1]) + 1


@pytest.mark.parametrize("name", FILES)
def test_a_vault_is_read_only_when_nothing_is_an_error(name: str) -> None:
    reading = read(name)
    assert (reading.vault is None) == any(one.severity == "error" for one in reading.findings)
    if reading.vault:
        assert decode_customer_vault(reading.vault.encode()) == reading.vault
        json.dumps(facts_of(reading.vault))


def test_every_sentence_is_said_about_some_file() -> None:
    said = {one.code for name in FILES for one in read(name).findings}
    made = {"too_large", "encoding_utf16", "binary", "not_text", "too_many_nodes"}  # by test_properties_limits
    assert set(findings.SENTENCES) - said - made == {"unreadable"}


@pytest.mark.parametrize("code", findings.SENTENCES)
def test_a_sentence_is_one_and_ends(code: str) -> None:
    _, problem, mend = findings.SENTENCES[code]
    assert problem.endswith(".")
    assert mend == "" or mend.endswith(".")
    for brand in ("Spring ", "Boomi", "HashiCorp", "OpenBao", "Java"):
        assert brand not in problem + mend


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_token_at_any_place_of_a_file_is_never_seen(name: str) -> None:
    content = (CORPUS / name).read_bytes()
    words = [at for at in range(len(content) + 1) if at % 7 == 0 or content[at - 1 : at] in b" :=\n"]
    for at in words:
        for canary in (f" {CANARY} ", CANARY):
            reading = read_properties(name, content[:at] + canary.encode() + content[at:])
            assert CANARY[4:] not in seen(reading), at


@pytest.mark.parametrize("name", FILES)
def test_a_token_in_place_of_a_value_is_never_seen(name: str) -> None:
    content = (CORPUS / name).read_bytes()
    for old in (
        b"https://vault.example.com:8200",
        b"${VAULT_URI}",
        b"admin",
        TOKEN.encode(),
        b"20s",
        b"true",
        b"vault:",
    ):
        assert CANARY[4:] not in seen(read_properties(name, content.replace(old, CANARY.encode())))


@pytest.mark.parametrize("name", [name for name in FILES if "token" not in name])
def test_the_corpus_tokens_are_never_seen(name: str) -> None:
    assert TOKEN[4:] not in seen(read(name))


@pytest.mark.parametrize("secret", ["hunter2", "S3cr3t with spaces", "päss", "x"])
@pytest.mark.parametrize(
    "key", ["token", "ssl.key-store-password", "ssl.trustStorePassword", "tokn", "client_secret", "other"]
)
def test_a_short_secret_is_masked_by_its_key(key: str, secret: str) -> None:
    for broken in ("", "\tx: [\n"):
        text = f"spring.cloud.vault:\n  uri: https://vault.example.com:8200\n  {key}: '{secret}'\n{broken}"
        line = read_properties("a.yaml", text.encode()).preview[2]
        assert line.text == f"  {key}: {MASK}"
        assert line.redacted


def test_a_masked_secret_does_not_tell_its_length() -> None:
    lengths = {
        len(read_properties("a.yaml", GOOD.replace(TOKEN, "a" * n).encode()).preview[2].text) for n in (1, 9, 99)
    }
    assert len(lengths) == 1


def test_a_secret_over_several_lines_is_masked_on_each() -> None:
    text = "spring.cloud.vault:\n  token: |\n    one\n    two\n  uri: https://vault.example.com:8200\n"
    shown = [line.text for line in read_properties("a.yaml", text.encode()).preview]
    assert shown == [
        "spring.cloud.vault:",
        f"  token: {MASK}",
        f"    {MASK}",
        f"    {MASK}",
        "  uri: https://vault.example.com:8200",
    ]
    text = "spring.cloud.vault.token=one\\\n  two\n"
    shown = [line.text for line in read_properties("a.properties", text.encode()).preview]
    assert shown == [f"spring.cloud.vault.token={MASK}", f"  {MASK}"]


def test_an_old_value_in_a_comment_is_masked() -> None:
    shown = [line.text for line in read("old-token-in-comment.yaml").preview]
    assert shown[-2:] == [f"# token: {MASK}", f"# password = {MASK}"]


@pytest.mark.parametrize("word", ["hvs.AbCd1234", "s.AbCd1234", "hvb.AbCd1234", "b.AbCd1234", "hvr.AbCd1234"])
def test_a_short_token_is_masked_wherever_it_stands(word: str) -> None:
    text = f"# once {word}\nspring.cloud.vault:\n  uri: https://vault.example.com/{word}\n  namespace: ${{{word}}}\n  {word}: 1\n"
    for name, content in (("a.yaml", text), ("a.yaml", text + "\tx: [\n"), ("a.properties", text)):
        assert word not in "\n".join(line.text for line in read_properties(name, content.encode()).preview)


@pytest.mark.parametrize(
    "value", ["{hunter2}", "{hunter2: 1}", "[hunter2]", "[{hunter2: 1}]", "\n    hunter2: 1", "\n    - hunter2"]
)
def test_what_stands_below_a_secret_is_masked_too(value: str) -> None:
    text = f"spring.cloud.vault:\n  token: {value}\n"
    assert "hunter2" not in seen(read_properties("a.yaml", text.encode()))


def test_a_whole_placeholder_and_the_address_are_shown() -> None:
    shown = "\n".join(line.text for line in read("seed-left.yaml").preview)
    assert shown == (CORPUS / "seed-left.yaml").read_text().rstrip("\n")
    assert "https://vault.example.com:8200" in seen(read("seed-filled.yaml"))


def test_an_address_with_a_password_is_masked() -> None:
    assert read("uri-userinfo.yaml").preview[3].text == f"      uri: {MASK}"


def test_a_default_that_would_be_a_secret_is_refused_and_never_seen() -> None:
    for name in ("token-default.yaml", "store-password-default.yaml"):
        assert "placeholder_default_secret" in codes(read(name))
        assert "s3cret" not in seen(read(name))


def test_what_moves_the_cursor_is_not_shown() -> None:
    shown = read_properties("a.yaml", "# \u202eabc \u2066\n".encode()).preview[0].text
    assert shown == "# \ufffdabc \ufffd"


def test_the_name_is_never_repeated() -> None:
    for name in ("../../x.yml", "x.yml\r\nSet-Cookie: a=b", "<script>.yaml", "", ".", "yaml", "\0.properties"):
        reading = read_properties(name, GOOD.encode())
        assert "script" not in seen(reading)
        assert "Cookie" not in seen(reading)


# -- settings ----------------------------------------------------------------------------------------------------------


def one_setting(line: str) -> Reading:
    return read_properties("a.yaml", f"{GOOD}  {line}\n".encode())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("20s", 20), ("500ms", 0.5), ("1m", 60), ("2H", 7200), ("1d", 86400), ("7us", 7e-6), ("9ns", 9e-9)),
        *(
            ("20", 0.02),
            ("+30s", 30),
            ("PT20S", 20),
            ("pt1m30s", 90),
            ("P1DT1H", 90000),
            ("PT0.5S", 0.5),
            ("-PT-9S", 9),
        ),
    ],
)
def test_a_time_is_read_with_its_unit_and_a_bare_number_is_milliseconds(text: str, seconds: float) -> None:
    reading = one_setting(f"session.lifecycle.expiry-threshold: {text}")
    assert reading.vault
    assert reading.vault.lifecycle.expiry_threshold == seconds
    assert ("duration_bare" in codes(reading)) == text.isdigit()


@pytest.mark.parametrize(
    "text", ["1m30s", "20 s", "'20s '", "1.5s", "s", "20x", "20sec", "PT", "P", "P1H", "1:30", "0x10", "9" * 5000]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    assert codes(one_setting(f"session.lifecycle.expiry-threshold: {text}")) == ["duration_invalid"]


@pytest.mark.parametrize(("text", "milliseconds"), [("5000", 5000), ("+1", 1), ("'  250 '", 250), ("600000", 600000)])
def test_a_timeout_is_milliseconds(text: str, milliseconds: int) -> None:
    reading = one_setting(f"read-timeout: {text}")
    assert reading.vault
    assert reading.vault.read_timeout == milliseconds / 1000


@pytest.mark.parametrize("text", ["5s", "5.0", "010", "1e3", "5_000", "9" * 5000, "2024-13-45"])
def test_what_is_no_whole_number_is_refused_as_a_timeout(text: str) -> None:
    assert codes(one_setting(f"connection-timeout: {text}")) == ["timeout_invalid"]


@pytest.mark.parametrize(("words", "value"), [("true on yes 1 TRUE Yes", True), ("false off no 0 Off", False)])
def test_a_truth_value_has_several_words(words: str, value: bool) -> None:
    for word in words.split():
        reading = one_setting(f"session.lifecycle.enabled: {word}")
        assert reading.vault
        assert reading.vault.lifecycle.enabled is value


@pytest.mark.parametrize("word", ["token", "TOKEN", "To_ken", "'Token '"])
def test_authentication_is_matched_by_its_letters(word: str) -> None:
    assert codes(one_setting(f"authentication: {word}")) == []


def test_a_token_that_yaml_would_take_for_something_else_stays_text() -> None:
    for token in ("0123", "2024-13-45", "1e5", "9" * 5000, "0x1F", "1_000"):
        reading = read_properties("a.yaml", GOOD.replace(TOKEN, token).encode())
        assert reading.vault
        assert reading.vault.token == token


def test_the_last_of_two_lines_counts_in_properties() -> None:
    reading = read("duplicate.properties")
    assert reading.vault
    assert reading.vault.uri == "https://other.example.com:8200"


def test_variables_stand_in_the_order_of_the_file() -> None:
    named = [(one.name, one.setting, one.optional) for one in read("placeholders.properties").variables]
    assert named == [
        ("VAULT_URI", "uri", False),
        ("AUTH_TOKEN", "token", False),
        ("VAULT_CACERT", "ssl.trust-store", True),
    ]


def test_a_name_beyond_the_usual_ones_must_be_allowed_on_the_container() -> None:
    finding = next(one for one in read("token-other-name.yaml").findings if one.code == "placeholder_not_allowed")
    assert "`kms-runtime allow-vault --allow-env KMS_TOKEN`" in finding.mend


@pytest.mark.parametrize("name", ["uri-literal-token-held.yaml", "uri-default-token-held.yaml", "namespace-held.yaml"])
def test_a_literal_address_for_what_the_container_holds_must_be_confirmed_on_it(name: str) -> None:
    reading = read(name)
    finding = next(one for one in reading.findings if one.code == "confirm_vault")
    assert "`kms-runtime allow-vault https://vault.example.com:8200`" in finding.mend
    assert reading.vault
    assert facts_of(reading.vault)["confirm"] == "https://vault.example.com:8200"


def test_facts_never_hold_a_secret() -> None:
    reading = read("mutual-tls.yaml")
    assert reading.vault
    assert facts_of(reading.vault) == {
        "uri": "https://vault.example.com:8200",
        "namespace": "",
        "token": "literal",
        "lifecycle": {"enabled": True, "refresh_before_expiry": 5.0, "expiry_threshold": 7.0},
        "timeouts": {"connection": 5.0, "read": 15.0},
        "trust_store": "/etc/kms/ca.pem",
        "key_store": "/etc/kms/client.pem",
        "variables": [{"name": "KEY_PASSWORD", "setting": "ssl.key-store-password", "optional": False}],
        "confirm": "https://vault.example.com:8200",
    }


def test_a_file_of_16_kib_is_read_and_one_byte_more_is_not() -> None:
    padding = "#" * (MAX_BYTES - len(GOOD))
    assert read_properties("a.yaml", (GOOD + padding).encode()).vault
    assert codes(read_properties("a.yaml", (GOOD + padding + "#").encode())) == ["too_large"]


def test_only_the_interface_is_public() -> None:
    assert properties.__all__ == [
        "MAX_BYTES",
        "Finding",
        "PreviewLine",
        "Reading",
        "Variable",
        "facts_of",
        "read_properties",
    ]
