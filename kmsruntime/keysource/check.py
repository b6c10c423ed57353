"""`check`: what the newest KMS settings ask of this container and of the customer's vault, without changing anything.

And the same look when `get` or `exec` cannot open a store: why the vault it is sealed with does not help.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kmscore.byov.preflight import verdict
from kmscore.byov.verdicts import Step, explain
from kmsruntime.errors import CustomerVaultMisconfigured, RuntimeProblem, printable
from kmsruntime.keysource.sources import CustomerVaultClient
from kmsruntime.keysource.switch import PreflightResult, examine

if TYPE_CHECKING:
    from kmsruntime.container import Container  # which is made of what lies here

MARKS: Final = {"ok": "ok", "failed": "FAILED", "warning": "note", "skipped": "-"}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The steps, none in hosted mode. problem: to be raised after showing them, None when the vault can be used."""

    revision: int
    customer: CustomerVaultClient | None
    steps: tuple[Step, ...]

    @property
    def problem(self) -> RuntimeProblem | None:
        failed = verdict(self.steps)
        if self.customer is None or failed.state != "failed":
            return None
        words = self.customer.explained(failed)
        return CustomerVaultMisconfigured(failed.code, f"{words.title}: {words.sentence}")

    def screen(self) -> str:
        """For people."""
        if self.customer is None:
            return f"KMS settings, revision {self.revision}: the hosted vault is used; there is nothing to check."
        return screen(self.steps, **self.customer.words(verdict(self.steps)))

    def document(self) -> dict[str, Any]:
        """For programs: settings_revision, source, wrapped, ok, verdict, steps."""
        about = {
            "settings_revision": self.revision,
            "source": "byov" if self.customer else "hosted",
            "wrapped": bool(self.customer and self.customer.wrapped),
        }
        if self.customer is None:
            return about | {"ok": True, "verdict": "ok", "steps": []}
        return about | document(self.steps, **self.customer.words(verdict(self.steps)))


def check(container: Container) -> CheckResult:
    """Fetch the newest settings (kept ones when the portal is down), resolve the file here, run the preflight.

    Raises NotEnrolled, SettingsRefused, the portal's and the hosted vault's errors.
    """
    with container.home.lock():
        header = container.sealed_state.header()
        revision = container.settings.latest(header.settings_revision if header else 0)
        customer = container.sources.customer(revision)
    return CheckResult(revision, customer, customer.preflight() if customer else ())


def explained(container: Container, problem: RuntimeProblem) -> RuntimeProblem:
    """Trouble at the vault of a wrapped store, by the preflight's step that fails; any other problem as it is."""
    if not problem.kind.startswith("customer_vault_"):
        return problem
    found = PreflightResult()
    with suppress(RuntimeProblem):
        header = container.sealed_state.header()
        if header is not None and header.memory_only:
            found = examine(container.sources.customer(header.settings_revision))
    return type(problem)(found.code, found.sentence) if found.code else problem


# -- in words ----------------------------------------------------------------------------------------------------------


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
