"""The end of an account's Key Management Service, and the way back: disable, enable, activate again after shredding.

Disabling deletes the roles of its environments and Atoms from the hosted vault and nothing else. Until the end of the grace
period enabling makes them again; each container then fetches new credentials by itself, and nothing has to be entered again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from accounts.models import Account, User
from accounts.rows import lock_in_order
from atoms.models import Atom, Environment, Node
from kmscore.refused import Refused
from kmscore.vaultclient.mounts import OF_ATOMS, OF_ENVIRONMENTS, RecipientMounts
from operations import actions as operations
from operations.models import Operation
from operations.work import checkpoint
from vaults import kms_audit
from vaults.hosted import calls, ledger
from vaults.keys.deeds import last_deed
from vaults.keys.provision import record_recipient
from vaults.models import KmsAccount, Recipient, RecipientRotation, SecretId, ShredApproval, ShredCertificate
from vaults.vault_operation import KEYS_GROUP, vault_operation

GRACE_DAYS = (7, 30, 90)  # least, usual, most
SHRED = "vaults.shred"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an account's KMS holds together: counts for whoever is about to end it."""

    environments: int
    atoms: int
    nodes: int
    values: int
    held_at_containers: int


def inventory_of(account: Account) -> Inventory:
    """Three queries, whatever the size."""
    counts = account.environments.aggregate(
        values=Count("extension_values", filter=Q(extension_values__form="sealed")), number=Count("pk", distinct=True)
    )
    nodes = Node.objects.filter(atom__account=account, state=Node.State.ENROLLED)
    enrolled = nodes.aggregate(number=Count("pk"), holding=Count("pk", filter=Q(report__values__gt=0)))
    atoms = account.atoms.count()
    return Inventory(counts["number"], atoms, enrolled["number"], counts["values"], enrolled["holding"])


# -- disable ------------------------------------------------------------------------------------------------------------


@transaction.atomic
def disable_kms(account: Account, *, days: int, actor: User) -> KmsAccount:
    """Cut every container off and refuse new values, for a grace period of 7 to 90 days. Raises Refused, RowTampered."""
    if not GRACE_DAYS[0] <= days <= GRACE_DAYS[-1]:
        raise ValueError("the grace period has 7 to 90 days")
    kms = locked(account)
    if kms.state != KmsAccount.State.ACTIVE:
        raise Refused("not_active", "Only an active Key Management Service can be disabled.")
    now = timezone.now()
    set_state(kms, KmsAccount.State.DISABLED, actor, ends_at=now + timedelta(days=days))
    recipients, here = kms.account.recipients.count(), _recipients_here(kms.account)
    deleted = f", and of {recipients - here} deleted" if recipients > here else ""
    operations.request(
        "vaults.disable",
        account=account,
        subject_id=account.pk,
        title=f"Delete the roles of {here} environments and Atoms{deleted}",
        actor=actor,
        total=max(recipients, 1),
        exclusive_group=KEYS_GROUP,
    )
    message = f"Key Management Service disabled; its keys are kept until {kms.ends_at:%d %B %Y, %H:%M} UTC"
    kms_audit.record(account, "DISABLE", message, ends_at=str(kms.ends_at), recipients=recipients, actor=actor)
    return kms


def _recipients_here(account: Account) -> int:
    """How many of them are environments and Atoms still; a deleted one keeps its role in the vault until here."""
    places = Q(pk__in=account.environments.values("pk")) | Q(pk__in=account.atoms.values("pk"))
    return account.recipients.filter(places).count()


@vault_operation("vaults.disable", queue=Operation.Queue.WATCH)
def delete_roles(operation: Operation) -> None:
    """Delete every role of an account whose KMS is disabled; nobody logs in with it any more."""

    def delete(recipient: Recipient) -> None:
        ledger.refuse_foreign("watch", recipient.mounts, recipient.pk, operation.account_id)
        calls.delete_role(recipient.mounts.logins, recipient.pk)
        now = timezone.now()
        gone = SecretId.objects.filter(recipient_id=recipient.pk, mount=recipient.mounts.logins, destroyed_at=None)
        gone.update(destroyed_at=now, superseded_at=now)

    _each(operation, KmsAccount.State.DISABLED, delete)


# -- and back -----------------------------------------------------------------------------------------------------------


@transaction.atomic
def enable_kms(account: Account, *, actor: User) -> KmsAccount:
    """Undo disabling: everything works again, without entering anything again. Raises Refused, RowTampered."""
    kms = locked(account)
    if kms.state != KmsAccount.State.DISABLED:
        raise Refused("not_disabled", "Only a disabled Key Management Service can be enabled again.")
    withdraw(account)
    set_state(kms, KmsAccount.State.ACTIVE, actor)
    _request_roles(account, actor)
    kms_audit.record(
        account, "ENABLE", "Key Management Service enabled again: every container fetches new credentials", actor=actor
    )
    return kms


def withdraw(account: Account) -> int:
    """End what was asked for and has not begun of shredding; the account's row is locked. Returns how many."""
    now = timezone.now()
    asked = account.operations.unfinished().filter(kind=SHRED)
    ShredApproval.objects.filter(operation__in=asked).delete()  # a word that was given for this does for nothing else
    count = asked.update(cancel_asked_at=now)  # one that a worker has just claimed looks at this under the same lock
    asked.exclude(state=Operation.State.RUNNING).update(state=Operation.State.CANCELLED, finished_at=now)
    return count


@transaction.atomic
def activate_again(account: Account, *, actor: User) -> KmsAccount:
    """After shredding: new keys under the old names. What was sealed stays lost. Raises Refused, RowTampered."""
    kms = locked(account)
    if kms.state != KmsAccount.State.SHREDDED or not _is_shredded(account):
        raise Refused("not_shredded", "Only when all of its keys are shredded can it be activated again.")
    set_state(kms, KmsAccount.State.ACTIVE, actor)
    _lock_places(account)
    lock_in_order(account.recipients.all())  # after the environments: so does whoever saves
    account.recipients.update(shredded_at=None, in_transit_version=1, oldest_version=1, rotated_at=None)
    begun = RecipientRotation.objects.filter(recipient__account=account).exclude(state=RecipientRotation.State.SETTLED)
    begun.update(state=RecipientRotation.State.PENDING, from_version=None, to_version=None, settle_at=None)
    _request_roles(account, actor)
    kms_audit.record(account, "ACTIVATE", "Key Management Service activated again, with new keys", actor=actor)
    return kms


def _is_shredded(account: Account) -> bool:
    """By the log's last word about it, and the certificate of that very shredding."""
    last = last_deed(account, "ACTIVATE", "DISABLE", "ENABLE", "SHRED", "SHRED_AGAIN", "SHREDDED")
    if last is None or last.action != "SHREDDED":
        return False
    certificate = ShredCertificate.objects.filter(account=account, operation=last.properties.get("operation")).first()
    return certificate is not None and certificate.has_valid_signature()


def _request_roles(account: Account, actor: User) -> None:
    """Have keys and roles made where they are missing. A new attachment revision makes containers ask for credentials,
    which wait until `provisioned_at` says that the roles are there."""
    _lock_places(account)
    account.environments.update(provisioned_at=None)
    account.atoms.update(provisioned_at=None, attachment_revision=F("attachment_revision") + 1)
    total = account.environments.count() + account.atoms.count()
    operations.request(
        "vaults.enable",
        account=account,
        subject_id=account.pk,
        title=f"Make the roles of {total} environments and Atoms",
        actor=actor,
        total=max(total, 1),
        exclusive_group=KEYS_GROUP,
    )


def _lock_places(account: Account) -> None:
    lock_in_order(account.environments.all())
    lock_in_order(account.atoms.all())


@vault_operation("vaults.enable")
def make_roles(operation: Operation) -> None:
    """Keys and roles of everything an account has that is not provisioned."""
    account = operation.account
    subjects: list[tuple[type[Atom] | type[Environment], str, RecipientMounts]] = [
        (Environment, Recipient.Kind.ENVIRONMENT, OF_ENVIRONMENTS),
        (Atom, Recipient.Kind.ATOM, OF_ATOMS),
    ]
    for model, kind, mounts in subjects:
        waiting: QuerySet[Environment] | QuerySet[Atom] = model.objects.filter(account=account, provisioned_at=None)
        for subject in waiting.order_by("pk"):
            if not _is(account, KmsAccount.State.ACTIVE):
                return  # disabled again meanwhile: its own operation comes next
            calls.provision(mounts, subject.verified().pk, account.pk)
            now = timezone.now()
            with transaction.atomic():
                record_recipient(subject, kind)
                model.objects.filter(pk=subject.pk).update(provisioned_at=now)
            left = sum(one.objects.filter(account=account, provisioned_at=None).count() for one, _, _ in subjects)
            checkpoint(operation, max(operation.total - left, 0))


def _each(operation: Operation, state: str, do: Callable[[Recipient], None]) -> None:
    """For each recipient of the account, as long as its KMS is in this state; goes on where a killed worker was."""
    recipients = operation.account.recipients.order_by("pk")
    total = max(recipients.count(), 1)
    for done, recipient in enumerate(recipients.iterator(500)):
        if done < operation.done:
            continue
        if not _is(operation.account, state):
            return
        do(recipient.verified())
        checkpoint(operation, done + 1, total)


def _is(account: Account, state: str) -> bool:
    kms = KmsAccount.objects.filter(account=account, state=state).first()
    return kms is not None and kms.has_valid_signature()


def locked(account: Account) -> KmsAccount:
    """The account's row, locked and genuine. Raises Refused when it was never activated, RowTampered."""
    kms = KmsAccount.objects.select_for_update(no_key=True).filter(account=account).first()
    if kms is None:
        raise Refused("never_activated", "The Key Management Service of this account was never activated.")
    return kms.verified(account_id=account.pk)


def set_state(kms: KmsAccount, state: str, actor: User | None, *, ends_at: object = None) -> None:
    kms.state, kms.since, kms.ends_at, kms.changed_by = state, timezone.now(), ends_at, actor  # type: ignore[assignment]
    if state == KmsAccount.State.SHREDDED:
        kms.shredded_at = kms.since
    kms.save()
