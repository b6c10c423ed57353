"""The words of the preflight: every code at every step has a sentence, and commands are safe to paste."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import string

import pytest

from kmscore.byov import verdicts
from kmscore.byov.preflight import refused, verdict
from kmscore.byov.verdicts import CODES, STEPS, Step, explain
from kmsruntime.keysource.check import document, screen

KEY = "acme-X1Y2Z3_3456789a"
URI = "https://vault.example.com:8200/v1"
EVERY = [Step(one, "failed", code, "detail") for one, code in itertools.product(STEPS, CODES)]


def test_every_pair_of_step_and_code_has_words() -> None:
    for step in EVERY:
        for uri, namespace in ((URI, "/admin"), ("${VAULT_URI}", ""), ("", "${VAULT_NAMESPACE}")):
            words = explain(step, key=KEY, uri=uri, namespace=namespace, wrapped=True)
            assert words.title
            assert re.search(r"\w.*[.]$", words.sentence), step
            assert "{" not in words.sentence.replace(namespace, ""), step


def test_every_code_is_at_home_at_a_step_and_has_a_sentence_of_its_own() -> None:
    assert set(CODES.values()) <= set(STEPS)
    assert set(verdicts._SENTENCES) == set(CODES)
    sentences = verdicts._SENTENCES | verdicts._LATER
    assert set(verdicts._COMMANDS) <= set(sentences)
    assert len(set(sentences.values())) == len(sentences) == len(CODES) + len(verdicts._LATER)


def test_every_step_has_words_for_being_well_and_for_not_being_asked() -> None:
    for step in STEPS:
        assert explain(Step(step, "ok"), key=KEY).sentence
        assert explain(Step(step, "skipped", "skipped"), key=KEY).sentence == "Not checked."


def test_a_newer_containers_code_gets_a_general_sentence() -> None:
    words = explain(Step("quantum", "failed", "vault_entangled"), key=KEY)
    assert (words.title, words.command) == ("quantum", "")
    assert "vault_entangled" in words.sentence


def test_sentences_take_their_parameters() -> None:
    assert "AUTH_TOKEN" in explain(Step("address", "failed", "env_missing", "AUTH_TOKEN"), key=KEY).sentence
    assert "vault.example.com:8200" in explain(Step("tcp", "failed", "vault_refused"), key=KEY, uri=URI).sentence
    missing = Step("namespace", "failed", "namespace_missing")
    assert "namespace admin;" in explain(missing, key=KEY, namespace="/admin/").sentence


def test_a_host_that_is_not_known_yet_gives_no_command_for_it() -> None:
    step = Step("tls", "failed", "tls_ca")
    assert "vault.example.com:8200" in explain(step, key=KEY, uri=URI).command
    assert explain(step, key=KEY, uri="${VAULT_URI}").command == ""


def test_commands_name_the_namespace_and_the_policy_of_the_mode() -> None:
    step = Step("datakey", "failed", "policy_denies", "transit/datakey/wrapped/x")
    command = explain(step, key=KEY, namespace="admin", wrapped=True).command
    assert command.startswith(f"vault policy write -namespace=admin {KEY} - <<'POLICY'\n")
    assert f'path "transit/decrypt/{KEY}"' in command
    plain = explain(step, key=KEY).command
    assert "-namespace" not in plain
    assert "decrypt" not in plain


@pytest.mark.parametrize("code", ["policy_denies", "wrapped_needs_decrypt", "token_lookup_denied"])
def test_no_command_gives_a_wrapped_container_data_keys_in_the_clear(code: str) -> None:
    """The policy it is written over may forbid them."""
    step = Step(CODES[code], "failed", code, "transit/x")
    command = explain(step, key=KEY, wrapped=True).command
    assert f'path "transit/datakey/wrapped/{KEY}"' in command
    assert command.count("transit/datakey/") == 1
    assert f'path "transit/datakey/+/{KEY}"' in explain(step, key=KEY).command  # as the seed has it


def test_a_dead_token_says_what_to_do_with_the_new_one() -> None:
    words = explain(Step("token", "failed", "token_invalid"), key=KEY)
    assert "token create" in words.command
    assert "upload a file with it" in words.sentence
    assert "variable" in words.sentence


def test_a_namespace_held_on_the_container_is_the_shells_variable() -> None:
    step = Step("engine", "failed", "engine_missing")
    command = explain(step, key=KEY, namespace="${VAULT_NAMESPACE}").command
    assert command == 'vault secrets enable -namespace="${VAULT_NAMESPACE}" transit'


@pytest.mark.parametrize("hostile", ["x; rm -rf /", "$(id)", "`id`", "a b", "'", '"', "x\nid", "${x;id}", "${X:$(id)}"])
def test_no_name_breaks_out_of_a_command(hostile: str) -> None:
    for step in EVERY:
        step = Step(step.id, step.state, step.code, hostile)
        command = explain(step, key=KEY, namespace=hostile, uri=URI).command
        tame = explain(step, key=KEY, namespace="calm", uri=URI).command
        assert len(shlex.split(command)) == len(shlex.split(tame)), command


def test_no_brand_is_named() -> None:
    texts = " ".join(
        [*verdicts._SENTENCES.values(), *verdicts._LATER.values(), *verdicts._FINE.values(), *verdicts.TITLES.values()]
    )
    for brand in ("HashiCorp", "OpenBao", "Boomi", "Spring"):
        assert brand.lower() not in texts.lower()


def test_templates_use_known_parameters_only() -> None:
    used = {
        name
        for text in (*verdicts._SENTENCES.values(), *verdicts._LATER.values(), *verdicts._COMMANDS.values())
        for _, name, _, _ in string.Formatter().parse(text)
        if name
    }
    assert used <= {"key", "detail", "namespace", "host", "place", "address", "ns", "policy"}


def test_the_verdict_is_the_failed_step() -> None:
    steps = refused("confirm_vault")
    assert verdict(steps).code == "confirm_vault"
    fine = tuple(Step(one, "ok") for one in STEPS)
    assert verdict(fine) == Step("round_trip", "ok", "ok")


def test_the_screen_has_a_line_for_each_step_and_the_command_below() -> None:
    steps = refused("confirm_vault")
    shown = screen(steps, key=KEY, uri=URI).splitlines()
    assert shown[0].startswith("FAILED  The vault's address: ")
    assert shown[1].strip() == "kms-runtime allow-vault https://vault.example.com:8200"
    assert [line[0] for line in shown[2:]] == ["-"] * (len(STEPS) - 1)


def test_no_detail_forges_a_line_of_the_screen() -> None:
    forged = refused("env_missing", "X\nok      Round trip: fine\x1b[2J")
    shown = screen(forged, key=KEY)
    assert len(shown.splitlines()) == len(STEPS)
    assert "\x1b" not in shown


def test_the_document_says_the_same_to_programs() -> None:
    found = document(refused("vault_sealed"), key=KEY)
    assert (found["ok"], found["verdict"]) == (False, "vault_sealed")
    sealed = next(step for step in found["steps"] if step["id"] == "sealed")
    assert sealed["command"] == "vault operator unseal"
    assert json.loads(json.dumps(found)) == found
