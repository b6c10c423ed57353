"""What a worker does at the hosted vault. Handlers take an operation, re-read what it is about, and are safe to run twice."""

from collections.abc import Callable
from functools import wraps

import structlog
from celery import shared_task
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts import audit
from accounts.rows import RowForged
from atoms.models import Atom, Environment
from kmscore.vaultclient.client import VaultError, VaultUnavailable
from operations.actions import CannotBeDone, TryLater, handler
from operations.models import Operation
from vaults.hosted import calls
from vaults.logins import alarms, enrolment, watch
from vaults.models import Enrolment, KmsAccount, ReaderAlarm, Recipient, SecretId

log = structlog.get_logger()


def vault_operation(
    kind: str, *, cancellable: bool = False, admin: bool = False
) -> Callable[[Callable[[Operation], None]], Callable[[Operation], None]]:
    """Register a handler whose vault errors become "try later" (unavailable) or "cannot be done" (everything else)."""

    def register(function: Callable[[Operation], None]) -> Callable[[Operation], None]:
        @handler(kind, cancellable=cancellable, admin=admin)
        @wraps(function)
        def handle(operation: Operation) -> None:
            try:
                function(operation)
            except RowForged:
                sentence = "A row this needs was changed outside the portal, so it grants nothing."
                raise CannotBeDone("record_forged", sentence) from None
            except VaultUnavailable as error:
                raise TryLater(error.code, error.sentence) from None
            except VaultError as error:
                raise CannotBeDone(error.code, error.sentence) from None

        return handle

    return register


@vault_operation("vaults.provision_environment")
def provision_environment(operation: Operation) -> None:
    """Key and role of an environment. Nothing to do for an account without KMS: activating it asks again."""
    environment = Environment.objects.select_related("account__kms").filter(pk=operation.subject_id).first()
    if environment is None or not KmsAccount.is_active(environment.account):
        return
    calls.provision_environment(environment.pk)
    _provisioned(environment, Recipient.Kind.ENVIRONMENT)


@vault_operation("vaults.provision_atom")
def provision_atom(operation: Operation) -> None:
    """Keys and role of an Atom."""
    atom = Atom.objects.select_related("account__kms").filter(pk=operation.subject_id).first()
    if atom is None or not KmsAccount.is_active(atom.account):
        return
    calls.provision_atom(atom.pk)
    _provisioned(atom, Recipient.Kind.ATOM)


def _provisioned(subject: Environment | Atom, kind: str) -> None:
    now = timezone.now()
    with transaction.atomic():
        _, created = Recipient.objects.get_or_create(
            id=subject.pk, defaults={"account": subject.account, "kind": kind, "provisioned_at": now}
        )
        type(subject).objects.filter(pk=subject.pk, provisioned_at=None).update(provisioned_at=now)
        if created:
            audit.record(
                subject.account,
                actor="provisioner",
                type="as.atom.kms",
                action="PROVISION",
                subject_id=subject.pk,
                message=f"Keys of {kind} {subject.name} made in the hosted vault",
            )


@vault_operation("vaults.wrap_role_ids")
def wrap_role_ids(operation: Operation) -> None:
    """Put wrapped role_ids beside an enrolment, so that web, which cannot read them, can hand them on."""
    found = Enrolment.objects.select_related("node__atom__account__kms", "environment").filter(pk=operation.subject_id)
    pending = found.filter(state=Enrolment.State.REQUESTED).first()
    if pending is None:
        return
    if not pending.holds():
        raise RowForged(f"Enrolment {pending.pk} does not bear the portal's signature.")
    if not KmsAccount.is_active(pending.node.atom.account):
        raise TryLater("kms_inactive", "The Key Management Service is disabled; it goes on when it is enabled again.")
    enrolment.retarget(pending)
    atom, environment = pending.node.atom, pending.environment
    if atom.provisioned_at is None or (environment and environment.provisioned_at is None):
        raise TryLater("not_provisioned", "The keys of the Atom or its environment are still being made.")
    atom_role = calls.wrapped_role_id("atoms", atom.pk, Enrolment.WRAP_SECONDS)
    environment_role = ""
    if environment is not None:
        environment_role = calls.wrapped_role_id("environments", environment.pk, Enrolment.WRAP_SECONDS)
    Enrolment.objects.filter(pk=pending.pk, state=Enrolment.State.REQUESTED).update(
        state=Enrolment.State.READY,
        wrapped_atom_role_id=atom_role,
        wrapped_environment_role_id=environment_role,
        ready_at=timezone.now(),
    )


@vault_operation("vaults.destroy_secret_ids")
def destroy_secret_ids(operation: Operation) -> None:
    """Destroy every superseded secret_id of an Atom."""
    _destroy(operation, SecretId.objects.filter(atom_id=operation.subject_id).exclude(superseded_at=None))


@vault_operation("vaults.leave_environment")
def leave_environment(operation: Operation) -> None:
    """Destroy an Atom's secret_ids for environments it was attached to before its present attachment."""
    revision = Atom.objects.filter(pk=operation.subject_id).values_list("attachment_revision", flat=True).first()
    if revision is not None:
        issued = SecretId.objects.filter(atom_id=operation.subject_id, mount="environments")
        _destroy(operation, issued.filter(attachment_revision__lt=revision))


@vault_operation("vaults.forget_atom")
def forget_atom(operation: Operation) -> None:
    """Destroy every secret_id that was ever issued for a deleted Atom."""
    _destroy(operation, SecretId.objects.filter(atom_id=operation.subject_id))


def _destroy(operation: Operation, secret_ids: QuerySet[SecretId]) -> None:
    rows = list(secret_ids.filter(destroyed_at=None))
    operation.progress(0, max(len(rows), 1))
    for done, row in enumerate(rows, start=1):
        # The vault has no call for several accessors at once.
        calls.destroy_secret_id(row.mount, row.recipient_id, row.accessor)
        now = timezone.now()
        SecretId.objects.filter(pk=row.pk).update(destroyed_at=now, superseded_at=Coalesce("superseded_at", now))
        operation.progress(done)


@vault_operation(alarms.DESTROY, admin=True)
def destroy_reader(operation: Operation) -> None:
    """Destroy a secret_id that nobody enrolled."""
    alarm = ReaderAlarm.objects.select_related("account").filter(pk=operation.subject_id).first()
    if alarm is None:
        return
    alarm.verified()
    calls.destroy_secret_id(alarm.mount, alarm.role, alarm.accessor)
    alarms.destroyed(alarm)


@shared_task(name="vaults.scan_logins")
def watch_readers() -> None:
    """Compare what can log in at the vault with the enrolments."""
    try:
        watch.look_if_due()
    except VaultError as error:
        log.warning("reader_watch_failed", code=error.code)  # the watch says since when


@shared_task(name="vaults.revoke_unfinished_enrolments")
def revoke_unfinished_enrolments() -> None:
    """Machines that began to enrol and never finished lose what they were given."""
    enrolment.revoke_unfinished()
