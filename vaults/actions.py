"""Changes at the KMS: activating it, enrolling nodes, handing over and taking back vault credentials."""

import uuid
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from accounts.models import Account, User
from atoms.models import Atom, InstallerToken, Node, NodeCredential, token_hash
from operations import actions as operations
from vaults import hosted
from vaults.models import Enrolment, KmsAccount, KmsSettings, SecretId


class EnrolmentRefused(Exception):
    """The runtime cannot enrol this way; `code` is for machines, the text says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


@transaction.atomic
def activate_kms(account: Account, *, actor: User | str) -> KmsAccount:
    """Turn the Key Management Service of an account on and provision what it has."""
    kms, created = KmsAccount.objects.get_or_create(
        account=account, defaults={"changed_by": actor if isinstance(actor, User) else None}
    )
    if created:
        message = "Key Management Service activated"
        audit.record(
            account, actor=actor, type="as.atom.kms", action="ACTIVATE", subject_id=account.pk, message=message
        )
        user = actor if isinstance(actor, User) else None
        for environment in account.environments.all():
            operations.request(
                "vaults.provision_environment",
                account=account,
                subject_id=environment.pk,
                title=f"Make the keys of environment {environment.name}",
                actor=user,
            )
        for atom in account.atoms.all():
            operations.request(
                "vaults.provision_atom",
                account=account,
                subject_id=atom.pk,
                title=f"Make the keys of {atom.name}",
                actor=user,
            )
    return kms


# -- enrolment (DESIGN.md §2) --------------------------------------------------------------------------------------------


@transaction.atomic
def begin_enrolment(
    installer_token: str, *, sync_hash: bytes, settings_hash: bytes, host_name: str, version: str
) -> Enrolment:
    """A machine shows an installer token: make it a node, or find the node it already is (a lost reply is retried)."""
    tokens = InstallerToken.objects.select_for_update(of=("self",)).select_related("atom__account__kms", "node")
    token = tokens.filter(token_hash=token_hash(installer_token)).first()
    if token is None or not token.is_genuine():
        raise EnrolmentRefused(
            "installer_token_unknown", "This installer token is not known. Make a new one for the Atom."
        )
    hashes = {NodeCredential.Kind.SYNC: sync_hash, NodeCredential.Kind.SETTINGS: settings_hash}
    if token.node is not None and _hashes(token.node) == hashes:
        enrolment = token.node.enrolments.filter(installing=True).first()
        if enrolment is not None:
            return enrolment
    _refuse_unusable(token)
    atom = token.atom
    if not KmsAccount.is_active(atom.account):
        raise EnrolmentRefused("kms_inactive", "The Key Management Service of this account is not active.")
    node = Node.objects.create(atom=atom, host_name=host_name[:253], version=version[:32])
    for kind, value in hashes.items():
        NodeCredential(node=node, kind=kind, token_hash=value).save(force_insert=True)
    token.node = node
    token.save(update_fields=["node"])
    audit.record(
        atom.account,
        actor=f"container {host_name[:60]}",
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
        raise EnrolmentRefused(
            "installer_token_withdrawn", "This installer token was withdrawn. Make a new one for the Atom."
        )
    if token.spent_at is not None:
        raise EnrolmentRefused(
            "installer_token_spent", "This installer token was used already. Make a new one for the Atom."
        )
    if token.expires_at <= timezone.now():
        raise EnrolmentRefused(
            "installer_token_expired", "This installer token has expired. Make a new one for the Atom."
        )
    if token.node is not None:
        raise EnrolmentRefused(
            "installer_token_in_use", "Another machine is enrolling with this installer token. Make one for each node."
        )


def _new_enrolment(node: Node, *, installing: bool) -> Enrolment:
    atom = Atom.objects.select_related("attachment__environment", "account").get(pk=node.atom_id)
    enrolment = Enrolment.objects.create(
        node=node, environment=atom.environment, attachment_revision=atom.attachment_revision, installing=installing
    )
    operations.request(
        "vaults.wrap_role_ids",
        account=atom.account,
        subject_id=enrolment.pk,
        title=f"Hand vault credentials to {node.host_name or 'a node'} of {atom.name}",
        actor=None,
    )
    return enrolment


@transaction.atomic
def request_credentials(node: Node, *, reason: str) -> Enrolment:
    """A node asks for vault credentials again; one that is asking already gets the same hand-over."""
    atom = Atom.objects.select_for_update(of=("self",)).select_related("account__kms").get(pk=node.atom_id)
    if not KmsAccount.is_active(atom.account):
        raise EnrolmentRefused("kms_inactive", "The Key Management Service of this account is not active.")
    open_states = (Enrolment.State.REQUESTED, Enrolment.State.READY)
    current = node.enrolments.filter(state__in=open_states, attachment_revision=atom.attachment_revision).first()
    if current is not None and not current.is_stale and current.deliveries < Enrolment.DELIVERIES:
        return current
    audit.record(
        atom.account,
        actor=f"container {node}",
        type="as.atom.kms",
        action="CREDENTIALS",
        subject_id=atom.pk,
        message=f"A container of {atom.name} asked for vault credentials ({reason})",
        properties={"node": str(node.pk), "reason": reason},
    )
    return _new_enrolment(node, installing=False)


def request_again(enrolment: Enrolment) -> None:
    """The wrapped role_ids ended, were used up on a crash, or are for a former attachment: have them wrapped anew."""
    with transaction.atomic():
        atom = Atom.objects.select_related("attachment__environment", "account").get(pk=enrolment.node.atom_id)
        renewed = Enrolment.objects.filter(pk=enrolment.pk, state=Enrolment.State.READY).update(
            state=Enrolment.State.REQUESTED,
            environment=atom.environment,
            attachment_revision=atom.attachment_revision,
            wrapped_atom_role_id="",
            wrapped_environment_role_id="",
            ready_at=None,
        )
        if renewed:
            operations.request(
                "vaults.wrap_role_ids",
                account=atom.account,
                subject_id=enrolment.pk,
                title=f"Hand vault credentials to {enrolment.node.host_name or 'a node'} of {atom.name} again",
                actor=None,
            )


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

    Raises EnrolmentRefused when it was delivered too often, and the errors of vaults.transit.
    """
    if enrolment.state == Enrolment.State.READY and (enrolment.is_stale or not _is_current(enrolment)):
        request_again(enrolment)
        return None
    if enrolment.state != Enrolment.State.READY:
        return None
    counted = Enrolment.objects.filter(
        pk=enrolment.pk, state=Enrolment.State.READY, deliveries__lt=Enrolment.DELIVERIES
    ).update(deliveries=F("deliveries") + 1)
    if not counted:
        raise EnrolmentRefused(
            "too_many_deliveries", "These credentials were fetched too often. Start the enrolment again."
        )
    grants = [_grant(enrolment, "atoms", enrolment.node.atom_id, enrolment.wrapped_atom_role_id)]
    if enrolment.environment_id and enrolment.wrapped_environment_role_id:
        grants.append(
            _grant(enrolment, "environments", enrolment.environment_id, enrolment.wrapped_environment_role_id)
        )
    if _is_current(enrolment):
        return grants
    # The Atom was moved while these were made: they must not outlive the attachment.
    with transaction.atomic():
        enrolment.secret_ids.filter(confirmed_at=None).update(superseded_at=timezone.now())
        _destroy_superseded(enrolment.node)
    request_again(enrolment)
    return None


def _is_current(enrolment: Enrolment) -> bool:
    """Whether the Atom is still attached where the enrolment says."""
    return Atom.objects.filter(pk=enrolment.node.atom_id, attachment_revision=enrolment.attachment_revision).exists()


def _grant(enrolment: Enrolment, mount: str, recipient: uuid.UUID, role_id_token: str) -> Grant:
    metadata = {"atom": str(enrolment.node.atom_id), "node": str(enrolment.node_id), "enrolment": str(enrolment.pk)}
    wrapping = hosted.wrapped_secret_id(mount, recipient, metadata, Enrolment.WRAP_SECONDS)
    SecretId.objects.create(
        enrolment=enrolment,
        node=enrolment.node,
        atom_id=enrolment.node.atom_id,
        attachment_revision=enrolment.attachment_revision,
        mount=mount,
        recipient_id=recipient,
        accessor=wrapping.accessor,
    )
    return Grant(mount, str(recipient), role_id_token, wrapping.token, wrapping.seconds)


@transaction.atomic
def confirm_enrolment(enrolment: Enrolment, accessors: list[str]) -> None:
    """The node has logged in with these secret_ids: spend the installer token, and let all its others be destroyed."""
    enrolment = (
        Enrolment.objects.select_for_update(of=("self",)).select_related("node__atom__account").get(pk=enrolment.pk)
    )
    if enrolment.state == Enrolment.State.CONFIRMED:
        return
    if enrolment.state != Enrolment.State.READY:
        raise EnrolmentRefused("nothing_to_confirm", "This enrolment has delivered nothing that could be confirmed.")
    issued = set(enrolment.secret_ids.filter(accessor__in=accessors).values_list("accessor", flat=True))
    if not issued or issued != set(accessors):
        raise EnrolmentRefused("accessor_unknown", "The portal did not issue these credentials.")
    now, node = timezone.now(), enrolment.node
    Enrolment.objects.filter(pk=enrolment.pk).update(
        state=Enrolment.State.CONFIRMED, confirmed_at=now, wrapped_atom_role_id="", wrapped_environment_role_id=""
    )
    node.secret_ids.filter(accessor__in=issued).update(confirmed_at=now)
    node.secret_ids.exclude(accessor__in=issued).filter(superseded_at=None).update(superseded_at=now)
    if enrolment.installing:
        Node.objects.filter(pk=node.pk).update(state=Node.State.ENROLLED, enrolled_at=now, last_seen_at=now)
        token = InstallerToken.objects.select_for_update().get(node=node)
        token.spent_at = now
        token.save(update_fields=["spent_at"])
    _destroy_superseded(node)
    audit.record(
        node.atom.account,
        actor=f"container {node}",
        type="as.atom.kms",
        action="ENROL" if enrolment.installing else "CREDENTIALS_TAKEN",
        subject_id=node.atom_id,
        message=f"A container of {node.atom.name} logged in to the hosted vault with its credentials",
        properties={"node": str(node.pk)},
    )


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
    node = enrolment.node
    enrolment.secret_ids.filter(superseded_at=None).update(superseded_at=timezone.now())
    _destroy_superseded(node)
    audit.record(
        node.atom.account,
        actor=f"container {node}",
        type="as.atom.kms",
        action="INTRUSION",
        subject_id=node.atom_id,
        message=f"Wrapped credentials for {node.atom.name} were opened by somebody else; they were destroyed",
        properties={"node": str(node.pk), "enrolment": str(enrolment.pk)},
    )


def _destroy_superseded(node: Node) -> None:
    if node.secret_ids.exclude(superseded_at=None).filter(destroyed_at=None).exists():
        operations.request(
            "vaults.destroy_secret_ids",
            account=node.atom.account,
            subject_id=node.pk,
            title=f"Destroy old vault credentials of {node} of {node.atom.name}",
            actor=None,
        )


def settings_of(atom: Atom) -> KmsSettings:
    """An Atom's KMS settings; hosted until somebody chose otherwise (not saved)."""
    found = KmsSettings.objects.filter(atom=atom).first()
    return found or KmsSettings(atom=atom)
