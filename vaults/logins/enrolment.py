"""Enrolling nodes, handing vault credentials over and taking them back (DESIGN.md §2).

Every step looks at what grants it, anew: the signed rows, the attachment as it is now, the installer token. What was issued
for anything else is destroyed.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts import audit
from accounts.rows import RowTampered
from atoms import actions as atoms
from atoms.models import Atom, Environment, InstallerToken, Node, NodeCredential, token_hash
from kmscore.refused import Refused
from operations import actions as operations
from operations.work import periodic
from vaults import kms_audit
from vaults.hosted import calls
from vaults.models import Enrolment, KmsAccount, SecretId

REPLACED_EVERY = timedelta(seconds=10)  # between two sync credentials of a node
PER_HOUR = 30  # hand-overs a node may ask for; a healthy one asks a few times a month


# -- asking -------------------------------------------------------------------------------------------------------------


@transaction.atomic
def begin(installer_token: str, *, sync_hash: bytes, settings_hash: bytes, host_name: str, version: str) -> Enrolment:
    """A machine shows an installer token: make it a node, or find the node it already is (a lost reply is retried)."""
    tokens = InstallerToken.objects.select_for_update(of=("self",), no_key=True).select_related(
        "atom__account__kms", "node"
    )
    token = tokens.filter(token_hash=token_hash(installer_token)).first()
    if token is None or not token.is_valid() or bytes(token.token_hash) != token_hash(installer_token):
        raise _token_refused("unknown", "is not known")
    hashes = {NodeCredential.Kind.SYNC: sync_hash, NodeCredential.Kind.SETTINGS: settings_hash}
    if token.node is not None and _hashes(token.node) == hashes:
        enrolment = token.node.enrolments.filter(installing=True).first()
        if enrolment is not None:
            if token.spent_at is None:
                _refuse_late(token)
            return enrolment
    _refuse_unusable(token)
    atom = token.atom
    KmsAccount.refuse_inactive(atom.account)
    node = Node.objects.create(atom=atom, host_name=host_name, version=version)
    for kind, value in hashes.items():
        credential = NodeCredential(pk=NodeCredential.id_of(node.pk, kind), node=node, kind=kind, token_hash=value)
        credential.atom, credential.account_id = atom, atom.account_id
        credential.save(force_insert=True)
    token.node = node
    token.save(update_fields=["node"])
    audit.record(
        atom.account,
        actor=_actor(node),
        type="as.atom",
        action="INSTALL",
        modifier="TOKEN",
        subject_id=atom.pk,
        message=f"A container asked to enrol as a node of {atom.name}",
        properties={"node": str(node.pk)},
    )
    return _new_enrolment(node, installing=True)


def _hashes(node: Node) -> dict[str, bytes]:
    return {row.kind: bytes(row.token_hash) for row in node.credentials.all()}


def _refuse_unusable(token: InstallerToken) -> None:
    if token.withdrawn_at is not None:
        raise _token_refused("withdrawn", "was withdrawn")
    if token.spent_at is not None:
        raise _token_refused("spent", "was used already")
    if token.expires_at <= timezone.now():
        raise _token_refused("expired", "has expired")
    if token.node is not None:
        sentence = "Another machine is enrolling with this installer token. Make one for each node."
        raise Refused("installer_token_in_use", sentence)


def _refuse_late(token: InstallerToken) -> None:
    """A machine that began in time may finish a little later, and not at all once the token was withdrawn."""
    if not token.is_valid():
        raise RowTampered(f"Installer token {token.pk} does not bear the portal's signature.")
    if token.withdrawn_at is not None:
        raise _token_refused("withdrawn", "was withdrawn")
    if token.expires_at + InstallerToken.GRACE <= timezone.now():
        raise _token_refused("expired", "has expired")


def _token_refused(code: str, what: str) -> Refused:
    return Refused(f"installer_token_{code}", f"This installer token {what}. Make a new one for the Atom.")


def _new_enrolment(node: Node, *, installing: bool) -> Enrolment:
    """A new hand-over; what earlier ones issued and the node never confirmed is destroyed."""
    atom = _atom(node)
    unconfirmed = node.secret_ids.filter(confirmed_at=None, superseded_at=None)
    if unconfirmed.update(superseded_at=timezone.now()):
        _destroy_superseded(atom)
    enrolment = Enrolment(
        node=node,
        atom=atom,
        environment=atom.environment,
        attachment_revision=atom.attachment_revision,
        installing=installing,
    )
    enrolment.save(force_insert=True)
    _wrap(enrolment, atom)
    return enrolment


def _wrap(enrolment: Enrolment, atom: Atom) -> None:
    operations.request(
        "vaults.wrap_role_ids",
        account=atom.account,
        subject_id=enrolment.pk,
        environment_id=enrolment.environment_id,
        title=f"Hand vault credentials to {enrolment.node.host_name or 'a node'} of {atom.name}",
        actor=None,
    )


def _atom(node: Node) -> Atom:
    return Atom.objects.select_related("attached_to", "account__kms").get(pk=node.atom_id).verified(pk=node.atom_id)


@transaction.atomic
def request_credentials(node: Node, *, reason: str) -> Enrolment:
    """A node asks for vault credentials again; one that is asking already gets the same hand-over."""
    atom = Atom.objects.select_for_update(of=("self",), no_key=True).select_related("account__kms").get(pk=node.atom_id)
    KmsAccount.refuse_inactive(atom.verified(pk=node.atom_id).account)
    open_states = (Enrolment.State.REQUESTED, Enrolment.State.READY)
    current = node.enrolments.filter(state__in=open_states, attachment_revision=atom.attachment_revision).first()
    if current is not None and not current.is_stale and current.deliveries < Enrolment.DELIVERIES:
        return current
    if node.enrolments.filter(requested_at__gt=timezone.now() - timedelta(hours=1)).count() >= PER_HOUR:
        sentence = "This container asks for credentials again and again. Wait an hour, or revoke it and enrol it anew."
        raise Refused("too_many_requests", sentence)
    _record(node, "CREDENTIALS", f"A container of {atom.name} asked for vault credentials ({reason})")
    return _new_enrolment(node, installing=False)


@transaction.atomic
def replace_sync_credential(node: Node, sync_hash: bytes) -> None:
    """A node made itself another sync credential: the old one, which once lay on its disk in the clear, ends at once.

    The same hash again changes nothing, so a lost reply is retried with either credential. Raises Refused,
    RowTampered.
    """
    asked = {"node_id": node.pk, "kind": NodeCredential.Kind.SYNC}
    found = NodeCredential.objects.select_for_update(no_key=True).get(**asked).verified(**asked)
    if bytes(found.token_hash) == sync_hash:
        return
    if found.created_at > timezone.now() - REPLACED_EVERY and found.replaced:
        sentence = "This container replaced its credential a moment ago. Wait a little."
        raise Refused("too_many_requests", sentence)
    if NodeCredential.objects.filter(token_hash=sync_hash).exists():
        raise Refused("credential_taken", "Make another credential: this one cannot be used.")
    found.token_hash, found.created_at, found.replaced = sync_hash, timezone.now(), True
    found.save(update_fields=["token_hash", "created_at", "replaced"])
    _record(node, "CREDENTIALS", f"A container of {node.atom.name} replaced its sync credential")


@transaction.atomic
def request_again(enrolment: Enrolment) -> None:
    """The wrapped role_ids ended, were used up on a crash, or are for a former attachment: have them wrapped anew.

    Each time counts as a delivery, so a loop of asking ends.
    """
    renewed = Enrolment.objects.filter(
        pk=enrolment.pk, state=Enrolment.State.READY, deliveries__lt=Enrolment.DELIVERIES
    ).update(
        state=Enrolment.State.REQUESTED,
        wrapped_atom_role_id="",
        wrapped_environment_role_id="",
        ready_at=None,
        deliveries=F("deliveries") + 1,
    )
    if renewed:
        retarget(enrolment)
        _wrap(enrolment, _atom(enrolment.node))


def retarget(enrolment: Enrolment) -> None:
    """Point an enrolment at where its Atom is attached now. Raises RowTampered."""
    atom = _atom(enrolment.node)
    if not _is_for(enrolment, atom, atom.environment):
        enrolment.environment, enrolment.attachment_revision = atom.environment, atom.attachment_revision
        enrolment.save(update_fields=["environment", "attachment_revision"])


# -- delivering ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """What a node needs for one login: both wrapped halves and where they were made."""

    mount: str
    recipient: str
    role_id_token: str
    secret_id_token: str
    seconds: int


def deliver(enrolment: Enrolment) -> list[Grant] | None:
    """The wrapped credentials of a ready enrolment; None while the worker is not done. Each call issues new secret_ids.

    Raises Refused (delivered too often, installer token withdrawn or expired, KMS off), RowTampered, and the errors
    of kmscore.vaultclient.answers.
    """
    _check(enrolment)
    if enrolment.state != Enrolment.State.READY:
        return None
    if enrolment.is_stale or not _is_current(enrolment):
        request_again(enrolment)
        return None
    counted = Enrolment.objects.filter(
        pk=enrolment.pk, state=Enrolment.State.READY, deliveries__lt=Enrolment.DELIVERIES
    ).update(deliveries=F("deliveries") + 1)
    if not counted:
        sentence = "These credentials were fetched too often. Start the enrolment again."
        raise Refused("too_many_deliveries", sentence)
    grants = [_grant(enrolment, "atoms", enrolment.atom_id, enrolment.wrapped_atom_role_id)]
    if enrolment.environment_id and enrolment.wrapped_environment_role_id:
        grants.append(
            _grant(enrolment, "environments", enrolment.environment_id, enrolment.wrapped_environment_role_id)
        )
    if _is_current(enrolment):
        return grants
    # Moved, revoked or deleted while these were made: they must not outlive what they stood on.
    with transaction.atomic():
        SecretId.objects.filter(
            atom_id=enrolment.atom_id, enrolment=enrolment.pk, confirmed_at=None, superseded_at=None
        ).update(superseded_at=timezone.now())
        _destroy_superseded(enrolment.node.atom)
    if Enrolment.objects.filter(pk=enrolment.pk).exists():
        request_again(enrolment)
    return None


def _check(enrolment: Enrolment) -> None:
    """Whether this enrolment may go on at all. Raises RowTampered, Refused."""
    if not enrolment.is_valid():
        raise RowTampered(f"Enrolment {enrolment.pk} does not bear the portal's signature.")
    KmsAccount.refuse_inactive(enrolment.node.atom.account)
    if enrolment.installing and enrolment.state != Enrolment.State.CONFIRMED:
        token = InstallerToken.objects.select_related("atom").filter(node=enrolment.node_id).first()
        if token is None or (token.node_id, token.atom_id) != (enrolment.node_id, enrolment.atom_id):
            raise _token_refused("unknown", "is not known")
        _refuse_late(token)


def _is_current(enrolment: Enrolment) -> bool:
    """Whether node and Atom are still there, and attached where the enrolment says. Raises RowTampered."""
    node = Node.objects.filter(pk=enrolment.node_id, atom=enrolment.atom_id).exclude(state=Node.State.REVOKED).first()
    if node is None:
        return False
    atom = _atom(node)
    return _is_for(enrolment, atom, atom.environment)


def _is_for(enrolment: Enrolment, atom: Atom, environment: Environment | None) -> bool:
    place = environment.pk if environment else None
    return (enrolment.environment_id, enrolment.attachment_revision) == (place, atom.attachment_revision)


def _grant(enrolment: Enrolment, mount: str, recipient: uuid.UUID, role_id_token: str) -> Grant:
    metadata = {"atom": str(enrolment.atom_id), "node": str(enrolment.node_id), "enrolment": str(enrolment.pk)}
    wrapping = calls.wrapped_secret_id(mount, recipient, metadata, Enrolment.WRAP_SECONDS)
    issued = {
        "atom_id": enrolment.atom_id,
        "attachment_revision": enrolment.attachment_revision,
        "mount": mount,
        "recipient_id": uuid.UUID(str(recipient)),
        "accessor": wrapping.accessor,
    }
    try:
        with transaction.atomic():
            SecretId(enrolment=enrolment, node=enrolment.node, **issued).save(force_insert=True)
    except IntegrityError:  # deleted meanwhile: what was issued is on record all the same, to be destroyed
        SecretId(superseded_at=timezone.now(), **issued).save(force_insert=True)
    return Grant(mount, str(recipient), role_id_token, wrapping.token, wrapping.seconds)


# -- ending -------------------------------------------------------------------------------------------------------------


@transaction.atomic
def confirm(enrolment: Enrolment, accessors: list[str]) -> None:
    """The node has logged in with these secret_ids: spend the installer token, and let all its others be destroyed."""
    atom = Atom.objects.select_for_update(no_key=True).get(pk=enrolment.atom_id)
    locked = Enrolment.objects.select_for_update(of=("self",), no_key=True).select_related("node__atom__account__kms")
    enrolment = locked.get(pk=enrolment.pk)
    if enrolment.state == Enrolment.State.CONFIRMED:
        return
    _check(enrolment)
    if enrolment.state != Enrolment.State.READY:
        raise Refused("nothing_to_confirm", "This enrolment has delivered nothing that could be confirmed.")
    issued = set(enrolment.secret_ids.filter(accessor__in=accessors).values_list("accessor", flat=True))
    if not issued or issued != set(accessors):
        raise Refused("accessor_unknown", "The portal did not issue these credentials.")
    now, node = timezone.now(), enrolment.node
    if enrolment.installing:
        if not atoms.has_free_node(atom):
            raise Refused("node_exists", f"{atom.name} has its machine: another one enrolled meanwhile.")
        Node.objects.filter(pk=node.pk).update(state=Node.State.ENROLLED, enrolled_at=now, last_seen_at=now)
        token = InstallerToken.objects.select_for_update(no_key=True).get(node=node)
        token.spent_at = now
        token.save(update_fields=["spent_at"])
    Enrolment.objects.filter(pk=enrolment.pk).update(
        state=Enrolment.State.CONFIRMED, confirmed_at=now, wrapped_atom_role_id="", wrapped_environment_role_id=""
    )
    node.secret_ids.filter(accessor__in=issued).update(confirmed_at=now)
    node.secret_ids.exclude(accessor__in=issued).filter(superseded_at=None).update(superseded_at=now)
    _destroy_superseded(node.atom)
    deed = "ENROL" if enrolment.installing else "CREDENTIALS_TAKEN"
    _record(node, deed, f"A container of {node.atom.name} logged in to the hosted vault with its credentials")


@transaction.atomic
def report_intrusion(enrolment: Enrolment) -> None:
    """A wrapped credential was opened within its time by somebody who was not this node: void all of it, loudly."""
    changed = (
        Enrolment.objects.filter(pk=enrolment.pk)
        .exclude(state__in=(Enrolment.State.CONFIRMED, Enrolment.State.INTRUDED))
        .update(state=Enrolment.State.INTRUDED, wrapped_atom_role_id="", wrapped_environment_role_id="")
    )
    if not changed:
        return
    enrolment.secret_ids.filter(superseded_at=None).update(superseded_at=timezone.now())
    atom = enrolment.node.atom
    _destroy_superseded(atom)
    message = f"Wrapped credentials for {atom.name} were opened by somebody else; they were destroyed"
    _record(enrolment.node, "INTRUSION", message, enrolment=str(enrolment.pk))


@periodic(600)
def revoke_unfinished() -> int:
    """Revoke nodes that began to enrol and never will finish: their token has expired or was withdrawn.

    Two at a time may revoke one twice: the second operation finds nothing to destroy.
    """
    late = Q(installer_token__expires_at__lte=timezone.now() - InstallerToken.GRACE)
    gone = Q(installer_token__withdrawn_at__isnull=False) | Q(installer_token=None)
    nodes = list(Node.objects.filter(late | gone, state=Node.State.ENROLLING).select_related("atom__account"))
    for node in nodes:
        atoms.revoke_node(node, actor="portal")
    return len(nodes)


def _destroy_superseded(atom: Atom) -> None:
    operations.request(
        "vaults.destroy_secret_ids",
        account=atom.account,
        subject_id=atom.pk,
        environment_id=atom.attached_to_id,
        title=f"Destroy old vault credentials of {atom.name}",
        actor=None,
    )


def _record(node: Node, action: str, message: str, **facts: str) -> None:
    kms_audit.record(node.atom, action, message, actor=_actor(node), node=str(node.pk), **facts)


def _actor(node: Node) -> str:
    return f"container {node}"[:80]
