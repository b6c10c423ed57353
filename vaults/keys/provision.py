"""Turning the Key Management Service of an account on, and making the keys and roles of what it has in the hosted vault."""

from django.db import transaction
from django.utils import timezone

from accounts import memory
from accounts.models import Account, User
from accounts.rows import RowTampered
from atoms.models import Atom, Environment
from kmscore.vaultclient.mounts import OF_ATOMS, OF_ENVIRONMENTS
from operations.actions import request
from operations.models import Operation
from vaults import kms_audit
from vaults.hosted import calls
from vaults.models import KmsAccount, Recipient
from vaults.vault_operation import vault_operation


@transaction.atomic
def activate_kms(account: Account, *, actor: User | str) -> KmsAccount:
    """Turn the Key Management Service of an account on and provision what it has. Raises RowTampered when it had one, whose row
    is gone: nobody knows then whether it was disabled."""
    user = actor if isinstance(actor, User) else None
    kms, created = KmsAccount.objects.get_or_create(account=account, defaults={"changed_by": user})
    if not created:
        return kms
    name = f"kms-{account.pk.hex}"
    if memory.newest(name):
        raise RowTampered(f"The row of the Key Management Service of {account} was taken away past the portal.")
    memory.remember(name)
    kms_audit.record(account, "ACTIVATE", "Key Management Service activated", actor=actor)
    for environment in account.environments.all():
        request(
            "vaults.provision_environment",
            account=account,
            subject_id=environment.pk,
            environment_id=environment.pk,
            title=f"Make the keys of environment {environment.name}",
            actor=user,
        )
    for atom in account.atoms.all():
        request(
            "vaults.provision_atom",
            account=account,
            subject_id=atom.pk,
            environment_id=atom.attached_to_id,
            title=f"Make the keys of {atom.name}",
            actor=user,
        )
    return kms


@vault_operation("vaults.provision_environment")
def provision_environment(operation: Operation) -> None:
    """Key and role of an environment. Nothing to do for an account without KMS: activating it asks again."""
    environment = Environment.objects.select_related("account__kms").filter(pk=operation.subject_id).first()
    if environment is None or not KmsAccount.is_active(environment.account):
        return
    calls.provision(OF_ENVIRONMENTS, environment.verified().pk, environment.account_id)
    _note_provisioned(environment, Recipient.Kind.ENVIRONMENT)


@vault_operation("vaults.provision_atom")
def provision_atom(operation: Operation) -> None:
    """Keys and role of an Atom."""
    atom = Atom.objects.select_related("account__kms").filter(pk=operation.subject_id).first()
    if atom is None or not KmsAccount.is_active(atom.account):
        return
    calls.provision(OF_ATOMS, atom.verified().pk, atom.account_id)
    _note_provisioned(atom, Recipient.Kind.ATOM)


def record_recipient(subject: Environment | Atom, kind: str) -> bool:
    """Note whose keys these are; whether that is new. Raises RowTampered when they are noted as another account's."""
    recipient, created = Recipient.objects.get_or_create(
        id=subject.pk, defaults={"account": subject.account, "kind": kind}
    )
    if recipient.verified().account_id != subject.account_id:
        raise RowTampered(f"The keys of {subject} are noted as another account's.")
    return created


def _note_provisioned(subject: Environment | Atom, kind: str) -> None:
    now = timezone.now()
    with transaction.atomic():
        created = record_recipient(subject, kind)
        type(subject).objects.filter(pk=subject.pk, provisioned_at=None).update(provisioned_at=now)
        if created:
            message = f"Keys of {kind} {subject.name} made in the hosted vault"
            kms_audit.record(subject, "PROVISION", message, actor="provisioner")
