"""`check`: the preflight's steps for people and for programs, in the words of kmscore/byov/verdicts.py. Talks to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kmscore.byov.preflight import Step, explain, verdict
from kmsruntime.errors import printable

MARKS: Final = {"ok": "ok", "failed": "FAILED", "warning": "note", "skipped": "-"}


def screen(steps: Sequence[Step], *, key: str, namespace: str = "", uri: str = "", wrapped: bool = False) -> str:
    """A line for each step; under one that is not ok the command that mends it, indented."""
    lines = []
    for step in steps:
        words = explain(step, key=key, namespace=namespace, uri=uri, wrapped=wrapped)
        lines.append(f"{MARKS[step.state]:<8}{printable(f'{words.title}: {words.sentence}')}")
        lines += [f"{'':<12}{printable(line)}" for line in words.command.splitlines()]
    return "\n".join(lines)


def document(
    steps: Sequence[Step], *, key: str, namespace: str = "", uri: str = "", wrapped: bool = False
) -> dict[str, Any]:
    """The same as a JSON object: ok, verdict (a code), and steps with id, state, code, detail, title, sentence, command."""
    failed = verdict(tuple(steps))
    return {
        "ok": failed.state != "failed",
        "verdict": failed.code,
        "steps": [_entry(step, key, namespace, uri, wrapped) for step in steps],
    }


def _entry(step: Step, key: str, namespace: str, uri: str, wrapped: bool) -> dict[str, str]:
    words = explain(step, key=key, namespace=namespace, uri=uri, wrapped=wrapped)
    found = {"id": step.id, "state": step.state, "code": step.code, "detail": step.detail}
    return found | {"title": words.title, "sentence": words.sentence, "command": words.command}
