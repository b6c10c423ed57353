"""What a worker does at the hosted vault. Handlers take an operation, re-read what it is about, and are safe to run twice."""

from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.rows import RowTampered
from atoms.models import Atom
from operations.models import Operation
from operations.work import Retry
from vaults.hosted import calls
from vaults.logins import alarms, enrolment
from vaults.models import Enrolment, KmsAccount, LoginAlarm, SecretId
from vaults.vault_operation import vault_operation


@vault_operation("vaults.wrap_role_ids")
def wrap_role_ids(operation: Operation) -> None:
    """Put wrapped role_ids beside an enrolment, so that web, which cannot read them, can hand them on."""
    found = Enrolment.objects.select_related("node__atom__account__kms", "environment").filter(pk=operation.subject_id)
    pending = found.filter(state=Enrolment.State.REQUESTED).first()
    if pending is None:
        return
    if not pending.is_valid():
        raise RowTampered(f"Enrolment {pending.pk} does not bear the portal's signature.")
    if not KmsAccount.is_active(pending.node.atom.account):
        raise Retry("kms_inactive", "The Key Management Service is disabled; it goes on when it is enabled again.")
    enrolment.retarget(pending)
    atom, environment = pending.node.atom, pending.environment
    if atom.provisioned_at is None or (environment and environment.provisioned_at is None):
        raise Retry("not_provisioned", "The keys of the Atom or its environment are still being made.")
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


@vault_operation("vaults.destroy_secret_ids", queue=Operation.Queue.WATCH)
def destroy_secret_ids(operation: Operation) -> None:
    """Destroy every superseded secret_id of an Atom."""
    _destroy(operation, SecretId.objects.filter(atom_id=operation.subject_id).exclude(superseded_at=None))


@vault_operation("vaults.leave_environment", queue=Operation.Queue.WATCH)
def leave_environment(operation: Operation) -> None:
    """Destroy an Atom's secret_ids for environments it was attached to before its present attachment."""
    revision = Atom.objects.filter(pk=operation.subject_id).values_list("attachment_revision", flat=True).first()
    if revision is not None:
        issued = SecretId.objects.filter(atom_id=operation.subject_id, mount="environments")
        _destroy(operation, issued.filter(attachment_revision__lt=revision))


@vault_operation("vaults.forget_atom", queue=Operation.Queue.WATCH)
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


@vault_operation(alarms.DESTROY, queue=Operation.Queue.WATCH, admin=True)
def destroy_login(operation: Operation) -> None:
    """Destroy a secret_id that nobody enrolled."""
    alarm = LoginAlarm.objects.select_related("account").filter(pk=operation.subject_id).first()
    if alarm is None:
        return
    alarm.verified()
    calls.destroy_secret_id(alarm.mount, alarm.role, alarm.accessor)
    alarms.destroyed(alarm)
