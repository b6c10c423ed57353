"""Every code that a token session, a vault's client or the portal's client can give has words where it is shown.

The codes are taken from the source, so that a new one without words fails here.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

from kmscore.byov.verdicts import Step, explain
from kmscore.vaultclient import answers, client, tls
from kmsruntime.keysource import token_session
from kmsruntime.remote import portal
from kmsruntime.status.screen import _token
from vaults.hosted import hvac_client

ERRORS = {
    *("VaultError", "VaultUnavailable", "VaultRefused", "VaultMisconfigured"),
    *("PortalUnavailable", "PortalRefused", "PortalMisconfigured"),
}


def calls(module: ModuleType) -> Iterator[tuple[str, list[ast.expr]]]:
    """(name, arguments) of each call in a module: of functions, classes, methods and super().__init__."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", "")), node.args


def constants(node: ast.expr) -> set[str]:
    """The texts an expression can be: of a constant, and of both sides of a condition."""
    if isinstance(node, ast.IfExp):
        return constants(node.body) | constants(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def codes_of_clients() -> set[str]:
    found = {*tls.TLS_SENTENCES, *tls._FILE_SENTENCES}
    for module in (answers, client, hvac_client):
        found |= {
            code for name, given in calls(module) if name in ERRORS | {"__init__"} for code in constants(given[0])
        }
    return found


def codes_of_sessions() -> set[str]:
    """What a session's `problem` can be: given to `_drop` or an error, or assigned."""
    found = {code for name, given in calls(token_session) if name in ERRORS | {"_drop"} for code in constants(given[0])}
    for node in ast.walk(ast.parse(inspect.getsource(token_session))):
        if isinstance(node, ast.Assign) and any("problem" in ast.unparse(target) for target in node.targets):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            found |= {code for value in values for code in constants(value)} - {""}
    return found


CODES = sorted(codes_of_clients() | codes_of_sessions())


def test_the_source_is_read_as_it_is_meant() -> None:
    assert {"token_revoked", "token_expired", "renewal_denied", "token_use_limited"} <= codes_of_sessions()
    assert {"vault_unreachable", "answer_invalid", "vault_sealed", "tls_name", "data_keys_broken"} <= codes_of_clients()


@pytest.mark.parametrize("code", CODES)
def test_the_panel_and_check_have_words_for_it(code: str) -> None:
    words = explain(Step("token", "failed", code), key="acme_1", uri="https://vault.example.com:8200")
    assert "no words for" not in words.sentence
    assert words.sentence.endswith(".")
    assert code not in words.sentence


@pytest.mark.parametrize("code", sorted(codes_of_sessions() | codes_of_clients()))
def test_status_says_it_in_the_same_words(code: str) -> None:
    shown = _token({"problem": code}, "acme_1", 0.0)
    assert shown.startswith(explain(Step("token", "failed", code), key="acme_1").sentence)
    assert code in shown  # for whoever looks it up


@pytest.mark.parametrize("module", [answers, client, hvac_client, portal, token_session])
def test_no_error_is_without_a_sentence(module: ModuleType) -> None:
    made = [given for name, given in calls(module) if name in ERRORS]
    assert all(len(given) >= 2 for given in made)
    for given in made:
        sentence = given[1]
        assert not isinstance(sentence, ast.Constant) or str(sentence.value).endswith((".", "%"))
