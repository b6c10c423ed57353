"""An answer that is all one sentence: what is shown of it is short, and costs no more than the answer itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from kmscore.byov.preflight import VaultAnswer, _engine, _key_problem
from kmsruntime.errors import LINE_CHARACTERS, StorageFailed
from tests.kmscore.byov.situations import dripping
from tests.live import ROOT

LONG = 40 * 1024 * 1024
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s"


def refused_enrolment(directory: Path, **problem: str) -> tuple[int, str]:
    """The program's peak of memory in bytes, and what it says, where a portal refuses in these words."""
    content = orjson.dumps(problem)
    with dripping(REFUSED % (len(content), content), b"") as address:
        words = ["enrol", "--dir", str(directory), "--portal", address, "--vault", "http://localhost:9"]
        process = subprocess.Popen(
            [sys.executable, "-m", "kmsruntime", *words],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stderr is not None
        with process.stdin as stdin:
            stdin.write("kms-token")
        with process.stderr as stderr:
            said = stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_maxrss * 1024, said


@pytest.mark.parametrize("which", ["code", "detail"])
def test_a_long_sentence_of_the_portal_is_cut_off_and_costs_no_multiple_of_its_size(tmp_path: Path, which: str) -> None:
    """Each character was looked at, and took eleven times its room."""
    words = {"code": "kms_inactive", "detail": "It is not active."}
    usual, said = refused_enrolment(tmp_path / "usual", **words)
    assert said == "kms-runtime: It is not active. [kms_inactive]\n"
    peak, said = refused_enrolment(tmp_path / "long", **(words | {which: "x" * LONG}))
    assert peak - usual < 5 * LONG, "its bytes, as they come and as a text"
    assert ("xxx" in said) == (which == "detail"), "a code that the API has not is none"
    assert len(said) < 500


def test_a_line_that_is_longer_than_any_of_ours_is_cut_off() -> None:
    found = StorageFailed("storage_failed", "\n" * 1_000_000).sentence
    assert found == "\\n" * LINE_CHARACTERS + "..."


def test_what_a_vault_says_of_a_key_is_looked_at_for_as_long_as_an_error_is() -> None:
    """It was joined and written anew as a whole, whatever it was made of."""
    assert _key_problem(VaultAnswer(400, {"errors": ["encryption key NOT found"]})) == "key_missing"
    for errors in (["x" * LONG + "not found"], ["x"] * 1000 + ["not found"], [{"not found": 1}], {"not found": 1}):
        assert _key_problem(VaultAnswer(400, {"errors": errors})) == "key_unfit"


@pytest.mark.parametrize("kind", [{"transit": "transit"}, ["transit"], 7, "x" * 65])
def test_an_engine_whose_type_is_none_is_another(kind: object) -> None:
    assert _engine(VaultAnswer(200, {"data": {"secret": {"transit/": {"type": kind}}}})) == "of another type"
