"""What the Key Management Service panel says about one Atom, worked out from rows; nothing here asks a vault."""

import hashlib
import shlex
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from accounts.models import Account
from atoms.models import Atom, Environment, Node
from kmscore.byov.customer import key_name
from operations.models import Operation
from vaults.models import ContainerReport, Enrolment, KmsAccount, KmsSettings, LoginAlarm, PropertiesFile, Recipient
from vaults.panel.checks import Checks, is_pending
from vaults.panel.settings import file_of, settings_of
from vaults.selfcheck import SelfCheckLine, selfcheck_line

WELL = ("ok", "switch_pending", "detached")  # verdicts that are told elsewhere or nowhere


def is_mismatched(report: ContainerReport, settings: KmsSettings) -> bool:
    """Whether its store is not protected as the settings say, though the container takes them for done."""
    return (report.source, report.wrapped) != (settings.mode, settings.wrapped)


@dataclass(frozen=True, slots=True)
class Status:
    """A badge and its sentence: tone is ok, warn, bad or info; `since` a time or None; `mend` what to do, or "";
    `command` to paste for that, or ""."""

    tone: str
    word: str
    sentence: str
    since: object = None
    mend: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything the panel shows."""

    atom: Atom
    settings: KmsSettings
    file: PropertiesFile | None
    status: Status
    nodes: list[Node]
    reports: list[ContainerReport]
    checks: list[Checks]
    in_transit: Recipient | None
    operations: list[Operation]
    intruded_at: object
    selfchecks: list[SelfCheckLine]
    alarms: list[LoginAlarm]

    @property
    def is_byov(self) -> bool:
        return self.settings.is_byov

    @property
    def key_name(self) -> str:
        """Of the transit key in the customer's vault."""
        return key_name(self.atom.account.code, str(self.atom.pk))

    @property
    def at_rest_version(self) -> int | None:
        """Of the Atom's at-rest key: the newest a container reported, else the first; None before it is made."""
        source = self.settings.mode
        reported = max((report.key_version for report in self.reports if report.source == source), default=0)
        return reported or (1 if self.atom.provisioned_at and not self.is_byov else None)

    @property
    def confirm_command(self) -> str:
        """What lets the container send what is its own to the vault the file names; "" when nothing is to be confirmed."""
        address = str(self.file.facts.get("confirm") or "") if self.file else ""
        return f"kms-runtime allow-vault {shlex.quote(address)}" if address else ""

    @property
    def variables(self) -> list[dict[str, Any]]:
        """Environment variables the container must have, as the file names them."""
        return list(self.file.facts.get("variables", [])) if self.file and self.is_byov else []

    def etag(self) -> str:
        """Changes exactly when what the panel shows changes (relative times are kept by the browser)."""
        parts = [
            self.status,
            [(n.pk, n.state, n.last_seen_at, n.is_online, n.delivered_revision) for n in self.nodes],
            [(r.node_id, r.reported_at, r.verdict, r.revision, r.settings_revision) for r in self.reports],
            (self.settings.mode, self.settings.wrapped, self.settings.revision),
            [(c.steps, c.token, c.pending) for c in self.checks],
            (self.in_transit.in_transit_version, self.in_transit.data_keys_made) if self.in_transit else None,
            [(o.pk, o.state, o.done) for o in self.operations],
            (self.atom.name, self.atom.attachment_revision, self.atom.rekey_revision, str(self.intruded_at)),
            [(p.node.pk, p.word, p.sentence, p.at, p.since) for p in self.selfchecks],
            [(a.pk, a.destroyed_at) for a in self.alarms],
            self.atom.environment and (self.atom.environment.name, self.atom.environment.extensions_revision),
        ]
        return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def panel_of(atom: Atom) -> Panel:
    """The panel of an Atom; a constant number of queries."""
    nodes = list(atom.nodes.exclude(state=Node.State.REVOKED).select_related("report__environment", "selfcheck"))
    reports = [node.report for node in nodes if hasattr(node, "report")]
    environment = atom.environment
    ids = [atom.pk, *(node.pk for node in nodes), *([environment.pk] if environment else [])]
    operations: QuerySet[Operation] = atom.account.operations.unfinished().filter(subject_id__in=ids)
    intruded = Enrolment.objects.filter(node__atom=atom, state=Enrolment.State.INTRUDED).exclude(
        node__state=Node.State.REVOKED  # revoking the node is what the call-out asks for
    )
    settings, file = settings_of(atom), file_of(atom)
    checks = [Checks(atom, node, settings, file) for node in nodes if hasattr(node, "report")]
    selfchecks = selfchecks_of(atom, nodes)
    return Panel(
        atom=atom,
        settings=settings,
        file=file,
        status=_doubted(_status(atom, environment, nodes, checks), selfchecks),
        nodes=nodes,
        reports=reports,
        checks=checks,
        in_transit=Recipient.objects.filter(pk=environment.pk).first() if environment else None,
        operations=list(operations),
        intruded_at=intruded.values_list("requested_at", flat=True).first(),
        selfchecks=selfchecks,
        alarms=list(_alarms(atom, environment)),
    )


def _alarms(atom: Atom, environment: Environment | None) -> QuerySet[LoginAlarm]:
    """Open ones about this Atom's login or its environment's."""
    roles = [str(row.pk) for row in (atom, environment) if row is not None]
    return LoginAlarm.objects.filter(account=atom.account_id, role__in=roles, closed_at=None)


# -- the state, in one sentence -----------------------------------------------------------------------------------------


def status_of(atom: Atom, environment: Environment | None, nodes: list[Node]) -> Status:
    """The state of an Atom as the panel shows it, from rows that are loaded and without a query: its account's KMS, its KMS
    settings, its nodes with report and self-check. What the properties file would add to a sentence is left out."""
    checks = [Checks(atom, node, settings_of(atom), None) for node in nodes if hasattr(node, "report")]
    return _doubted(_status(atom, environment, nodes, checks), selfchecks_of(atom, nodes))


def account_status(account: Account) -> Status | None:
    """Why nothing can be sealed in this account, and the way on; None while its Key Management Service is active."""
    kms = getattr(account, "kms", None)
    if kms is None:
        sentence = "The Key Management Service of this account was never activated."
        return Status("info", "Off", sentence, None, "Ask the portal's operator to activate it.")
    if kms.state == KmsAccount.State.ACTIVE:
        return None
    if kms.state == KmsAccount.State.DISABLED and kms.ends_at is not None:
        sentence = (
            "The Key Management Service of this account is disabled: its containers are cut off, its keys are kept."
        )
        mend = f"An administrator can enable it again under Keys, until {kms.ends_at:%-d %B %Y}."
        return Status("warn", "Disabled", sentence, kms.since, mend)
    mend = "Under Keys an administrator can activate it with new keys. Then its values have to be entered again."
    return Status("bad", "Shredded", "The keys of this account are destroyed.", kms.since, mend)


def selfchecks_of(atom: Atom, nodes: list[Node]) -> list[SelfCheckLine]:
    """What is known of each container's self-check; nothing while the account's KMS is not active."""
    checked = nodes if KmsAccount.is_active(atom.account) else []
    return [line for node in checked if (line := selfcheck_line(node, atom.attached_to_id))]


def _status(atom: Atom, environment: Environment | None, nodes: list[Node], checks: list[Checks]) -> Status:
    """The first thing that is not as it should be, else that all is well."""
    settings, reports = settings_of(atom), [found.report for found in checks]
    inactive = account_status(atom.account)
    if inactive is not None:
        return inactive
    if atom.provisioned_at is None:
        return Status("info", "Preparing", "The hosted vault is making this Atom's keys.", atom.created_at)
    enrolled = [node for node in nodes if node.state == Node.State.ENROLLED]
    if not enrolled:
        mend = "Make an installer token under Installation and run the lines shown there."
        if atom.last_revoked_at:
            sentence = "No container is enrolled now: the last one was revoked."
            return Status("info", "No container", sentence, atom.last_revoked_at, mend)
        return Status("info", "No container", "No container has enrolled yet.", atom.created_at, mend)
    pending = _pending_status(settings, enrolled, checks)
    if pending is not None:
        return pending
    failing = [found for found in checks if found.report.verdict not in WELL]
    if failing:
        return _failing_status(failing[0])
    broken = next((found for found in checks if found.token and found.token.broken), None)
    if broken is not None and broken.token is not None:
        sentence = f"{broken.token.sentence} The container goes on from its store and takes nothing new."
        return Status("bad", "Failing", sentence, broken.report.reported_at, broken.token.mend)
    silent = [node for node in enrolled if not node.is_online]
    return _silent_status(silent, len(enrolled)) if silent else _content_status(environment, settings, reports)


def _doubted(status: Status, selfchecks: list[SelfCheckLine]) -> Status:
    """What reports say is well, unless the self-check says otherwise: that is proved, and the rest is told."""
    doubts = sorted((line for line in selfchecks if line.tone in ("bad", "warn")), key=lambda line: line.tone)
    if not doubts:
        return status
    first = doubts[0]
    on_its_way = status.word in ("Nothing saved", "Delivering") and first.tone == "bad"
    if status.tone != "ok" and not on_its_way:
        return status
    return Status(first.tone, first.word, f"{first.node}: {first.sentence}", first.since or first.at, first.mend)


def _pending_status(settings: KmsSettings, enrolled: list[Node], checks: list[Checks]) -> Status | None:
    """The switch to the present settings, while it is not done everywhere."""
    if settings.revision == 1:
        return None
    waiting = [found for found in checks if found.pending]
    stuck = next((found for found in waiting if found.failed), None)
    if stuck is not None and stuck.failed is not None:
        sentence = f"Switch pending: {stuck.failed.title}: {stuck.failed.detail}"
        mend = "The container goes on working from its present store and tries again by itself."
        return Status("warn", "Switch pending", sentence, stuck.report.preflight_at, mend, stuck.failed.command)
    told = [found for found in waiting if found.report.verdict not in WELL]
    if told:
        sentence = f"Switch pending: {told[0].report.sentence or told[0].report.verdict}"
        return Status("warn", "Switch pending", sentence, told[0].report.reported_at)
    silent = [node for node in enrolled if is_pending(node, settings)]
    if not silent:
        return None
    mend = "" if any(node.is_online for node in silent) else "Start it with `kms-runtime run`."
    who = "The container takes" if len(enrolled) == 1 else f"{len(silent)} of {len(enrolled)} nodes take"
    return Status("info", "Switch pending", f"{who} the new settings at the next contact.", settings.changed_at, mend)


def _failing_status(found: Checks) -> Status:
    report = found.report
    if found.failed is not None:
        sentence = f"{found.failed.title}: {found.failed.detail}"
        return Status("bad", "Failing", sentence, report.reported_at, "", found.failed.command)
    return Status("bad", "Failing", report.sentence or f"A container reports: {report.verdict}.", report.reported_at)


def _silent_status(silent: list[Node], enrolled: int) -> Status:
    seen = max((node.last_seen_at for node in silent if node.last_seen_at), default=None)
    word = "Offline" if len(silent) == enrolled else "Cluster issues"
    sentence = "The container does not ask the portal."
    if enrolled > 1:
        sentence = f"{len(silent)} of {enrolled} nodes do not ask the portal."
    mend = "It goes on working from its store. Start it with `kms-runtime run`."
    return Status("warn", word, sentence, seen, mend)


def _content_status(environment: Environment | None, settings: KmsSettings, reports: list[ContainerReport]) -> Status:
    if environment is None:
        holding = sum(report.values for report in reports)
        sentence = "Unattached: its containers may read nothing."
        if holding:
            sentence += f" A container still holds {holding} values and drops them at its next contact."
        return Status("info", "Unattached", sentence)
    if environment.extensions_revision == 0:
        mend = "Save its environment extensions once."
        return Status("info", "Nothing saved", f"{environment.name} holds nothing yet.", environment.created_at, mend)
    revision = environment.extensions_revision
    behind = [r for r in reports if r.environment_id != environment.pk or r.revision < revision]
    if behind or not reports:
        sentence = f"Revision {revision} of {environment.name} is on its way."
        return Status("info", "Delivering", sentence, environment.extensions_changed_at)
    other = next((report for report in reports if is_mismatched(report, settings)), None)
    if other is not None:
        return _mismatch_status(other)
    since = min((report.sealed_at for report in reports if report.sealed_at), default=None)
    return Status("ok", "Sealed", _sealed_sentence(settings), since)


def _mismatch_status(report: ContainerReport) -> Status:
    """A store that is not protected as the settings say, though the container takes them for done."""
    by = "your own vault" if report.source == KmsSettings.Mode.BYOV else "the hosted vault"
    key = "without a plaintext key" if report.wrapped else "with the data key in a file"
    sentence = f"A container reports a store sealed by {by}, {key}; these settings say otherwise."
    mend = "Save the settings again. If this stays, revoke the node and enrol it anew."
    return Status("bad", "Mismatch", sentence, report.reported_at, mend)


def _sealed_sentence(settings: KmsSettings) -> str:
    if not settings.is_byov:
        return "Sealed by the hosted vault: in transit for this environment only, at rest under a key of this Atom."
    sentence = (
        "Sealed in transit for this environment only; re-encrypted on the container with a key of your own vault."
    )
    if settings.wrapped:
        return f"{sentence} No plaintext key is kept there: it opens nothing without your vault."
    return sentence
