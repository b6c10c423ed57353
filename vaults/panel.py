"""What the Key Management Service panel says about one Atom, worked out from rows; nothing here asks a vault."""

import hashlib
from dataclasses import dataclass

from django.db.models import QuerySet

from atoms.models import Atom, Node
from operations.models import Operation
from vaults.actions import settings_of
from vaults.models import ContainerReport, Enrolment, KmsAccount, KmsSettings, Recipient


@dataclass(frozen=True, slots=True)
class Status:
    """A badge and its sentence: tone is ok, warn, bad or info; `since` a time or None; `mend` what to do, or ""."""

    tone: str
    word: str
    sentence: str
    since: object = None
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything the panel shows."""

    atom: Atom
    settings: KmsSettings
    status: Status
    nodes: list[Node]
    reports: list[ContainerReport]
    in_transit: Recipient | None
    operations: list[Operation]
    intruded_at: object

    @property
    def at_rest_version(self) -> int | None:
        """Of the Atom's at-rest key: the newest a container reported, else the first; None before it is made."""
        reported = max((report.key_version for report in self.reports), default=0)
        return reported or (1 if self.atom.provisioned_at else None)

    def etag(self) -> str:
        """Changes exactly when what the panel shows changes (relative times are kept by the browser)."""
        parts = [
            self.status,
            [(n.pk, n.state, n.last_seen_at, n.is_online, n.delivered_revision) for n in self.nodes],
            [(r.node_id, r.reported_at, r.verdict, r.revision) for r in self.reports],
            (self.settings.mode, self.settings.wrapped, self.settings.revision),
            (self.in_transit.in_transit_version, self.in_transit.data_keys_made) if self.in_transit else None,
            [(o.pk, o.state, o.done) for o in self.operations],
            (self.atom.name, self.atom.attachment_revision, str(self.intruded_at)),
            self.atom.environment and (self.atom.environment.name, self.atom.environment.extensions_revision),
        ]
        return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def panel_of(atom: Atom) -> Panel:
    """The panel of an Atom; a constant number of queries."""
    nodes = list(atom.nodes.exclude(state=Node.State.REVOKED).select_related("report__environment"))
    reports = [node.report for node in nodes if hasattr(node, "report")]
    environment = atom.environment
    ids = [atom.pk, *(node.pk for node in nodes), *([environment.pk] if environment else [])]
    operations: QuerySet[Operation] = atom.account.operations.unfinished().filter(subject_id__in=ids)
    intruded = Enrolment.objects.filter(node__atom=atom, state=Enrolment.State.INTRUDED).exclude(
        node__state=Node.State.REVOKED  # revoking the node is what the call-out asks for
    )
    return Panel(
        atom=atom,
        settings=settings_of(atom),
        status=_status(atom, nodes, reports),
        nodes=nodes,
        reports=reports,
        in_transit=Recipient.objects.filter(pk=environment.pk).first() if environment else None,
        operations=list(operations),
        intruded_at=intruded.values_list("requested_at", flat=True).first(),
    )


def _status(atom: Atom, nodes: list[Node], reports: list[ContainerReport]) -> Status:
    """The first thing that is not as it should be, else that all is well."""
    kms = getattr(atom.account, "kms", None)
    if kms is None:
        sentence = "The Key Management Service of this account was never activated."
        return Status("info", "Off", sentence, None, "Ask the portal's operator to activate it.")
    if kms.state != KmsAccount.State.ACTIVE:
        sentence = "The Key Management Service of this account is not active."
        return Status("warn", kms.get_state_display(), sentence, kms.since)
    if atom.provisioned_at is None:
        return Status("info", "Preparing", "The hosted vault is making this Atom's keys.", atom.created_at)
    enrolled = [node for node in nodes if node.state == Node.State.ENROLLED]
    if not enrolled:
        mend = "Make an installer token under Installation and run the lines shown there."
        return Status("info", "No container", "No container has enrolled yet.", atom.created_at, mend)
    failing = [report for report in reports if report.verdict != "ok"]
    if failing:
        worst = failing[0]
        return Status("bad", "Failing", worst.sentence or f"A container reports: {worst.verdict}.", worst.reported_at)
    silent = [node for node in enrolled if not node.is_online]
    return _silent_status(silent, len(enrolled)) if silent else _content_status(atom, reports)


def _silent_status(silent: list[Node], enrolled: int) -> Status:
    seen = max((node.last_seen_at for node in silent if node.last_seen_at), default=None)
    word = "Offline" if len(silent) == enrolled else "Cluster issues"
    sentence = "The container does not ask the portal."
    if enrolled > 1:
        sentence = f"{len(silent)} of {enrolled} nodes do not ask the portal."
    mend = "It goes on working from its store. Start it with `kms-runtime run`."
    return Status("warn", word, sentence, seen, mend)


def _content_status(atom: Atom, reports: list[ContainerReport]) -> Status:
    environment = atom.environment
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
    since = min((report.sealed_at for report in reports if report.sealed_at), default=None)
    sentence = "Sealed by the hosted vault: in transit for this environment only, at rest under a key of this Atom."
    return Status("ok", "Sealed", sentence, since)
