"""Changes at the KMS of an account, and an Atom's settings of it."""

from django.db import transaction

from accounts import audit
from accounts.models import Account, User
from atoms.models import Atom
from operations import actions as operations
from vaults.models import KmsAccount, KmsSettings


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


def settings_of(atom: Atom) -> KmsSettings:
    """An Atom's KMS settings; hosted until somebody chose otherwise (not saved)."""
    found = KmsSettings.objects.filter(atom=atom).first()
    return found or KmsSettings(atom=atom)
