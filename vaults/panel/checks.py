"""What one container's checks of the customer's vault gave, in our words: the steps of its preflight, and its token."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.utils import timezone

from atoms.models import Atom, Node
from kmscore.byov import token, verdicts
from kmscore.byov.customer import key_name
from vaults.models import ContainerReport, KmsSettings, PropertiesFile

STATES = {"ok": "pass", "failed": "fail", "warning": "warn", "skipped": "skipped"}


def is_pending(node: Node, settings: KmsSettings) -> bool:
    """Whether the switch to the present settings is not done there yet; the first settings need none."""
    report: ContainerReport | None = getattr(node, "report", None)
    return settings.revision > 1 and (report is None or report.settings_revision < settings.revision)


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step of a container's checks, in the words of ui/_steps.html."""

    state: str
    title: str
    detail: str
    command: str
    id: str
    at: object = None


@dataclass(frozen=True, slots=True)
class TokenState:
    """How long the customer's token works, as a container last saw it. tone: ok, warn or bad; ends: a time or None.

    broken: it is not accepted or not renewed any more, which is the panel's state and not only a warning.
    """

    sentence: str
    tone: str
    ends: datetime | None
    looked_up_at: datetime | None
    mend: str
    broken: bool = False


class Checks:
    """What one container's checks of the customer's vault gave; put into words when it is asked for."""

    def __init__(self, atom: Atom, node: Node, settings: KmsSettings, file: PropertiesFile | None) -> None:
        self.node, self.report = node, node.report
        self.pending = is_pending(node, settings)  # its store is not sealed for the present settings yet
        self._atom, self._settings, self._file = atom, settings, file

    @cached_property
    def steps(self) -> list[StepLine]:
        made = [step for step in self.report.preflight if step["state"] != "skipped"]
        return [_line(self._atom, self.node, step, self._settings, self._file) for step in made]

    @property
    def skipped(self) -> int:
        """How many more wait for the failed one."""
        return len(self.report.preflight) - len(self.steps)

    @cached_property
    def failed(self) -> StepLine | None:
        return next((line for line in self.steps if line.state == "fail"), None)

    @cached_property
    def token(self) -> TokenState | None:
        return _token(self._atom, self.report)

    @property
    def warnings(self) -> list[StepLine]:
        return [line for line in self.steps if line.state == "warn"]


def _line(atom: Atom, node: Node, told: dict[str, Any], settings: KmsSettings, file: PropertiesFile | None) -> StepLine:
    """A container reports codes; the words are ours, so that no container writes on this page."""
    facts = file.facts if file else {}
    step = verdicts.Step(told["step"], told["state"], told["code"], told["detail"])
    said = verdicts.explain(
        step,
        key=key_name(atom.account.code, str(atom.pk)),
        namespace=str(facts.get("namespace", "")),
        uri=str(facts.get("uri", "")),
        wrapped=settings.wrapped,
    )
    plain = step.state in ("ok", "skipped")
    return StepLine(
        STATES[step.state],
        said.title,
        "" if plain else said.sentence,
        "" if plain else said.command,
        f"step-{node.pk}-{step.id}",
    )


def _token(atom: Atom, report: ContainerReport) -> TokenState | None:
    told = report.token
    if report.source != KmsSettings.Mode.BYOV or not told:
        return None
    looked = _moment(told.get("looked_up_at"))
    mend = "Make a periodic orphan token (see Policy and commands) and upload a file with it."
    if told.get("problem") or told.get("dropped"):
        step = verdicts.Step("token", "failed", str(told.get("problem") or "token_invalid"), "")
        said = verdicts.explain(step, key=key_name(atom.account.code, str(atom.pk)))
        dropped = bool(told.get("dropped"))
        return TokenState(said.sentence, "bad" if dropped else "warn", None, looked, mend, broken=dropped)
    names = ("renews_every", "next_renewal", "ends", "because", "certain")
    found = token.Forecast(*(told.get(name) for name in names))
    now = timezone.now().timestamp()
    level = token.warning_level(found.ends, now)
    tone = {0: "ok", 1: "bad"}.get(level, "warn")
    sentence = token.sentence_of(found, now)
    return TokenState(
        f"{sentence[:1].upper()}{sentence[1:]}.", tone, _moment(found.ends), looked, mend if level else ""
    )


def _moment(seconds: object) -> datetime | None:
    """Of a moment that a container told; nothing that is not a date."""
    if not isinstance(seconds, int) or not 0 < seconds < 1 << 34:
        return None
    return datetime.fromtimestamp(seconds, UTC)
