"""Editing connections: what it changes in every environment that holds values for them, and whose consent that needs."""

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import ProtectedError
from django.utils.dateparse import parse_datetime

from accounts import audit, quota
from accounts.models import Account, AuditEntry, User
from accounts.rows import RowTampered, lock_in_order
from atoms.models import Environment
from extensions.actions import delete_removed, fields_of, save_key_for, versions_of, write_plan
from extensions.listing import Path
from extensions.models import Connection, Field
from extensions.plan import HeldValue, Plan, plan_save
from extensions.removal import token_of
from kmscore.refused import Refused

EDITED = (
    "label",
    "extensible",
    "component_value",
    "position",
    "generation",
    "signature",
)  # columns of a field that an edit may change


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field as the connection form gives it; `id` is None for a new one. key and encrypted count for new ones only."""

    id: uuid.UUID | None
    key: str
    label: str
    encrypted: bool
    extensible: bool
    component_value: str


class StaleConnection(Refused):
    """The connection was changed or deleted meanwhile; nothing was written. `edits`: who and when, newest first."""

    def __init__(self, edits: list[AuditEntry]) -> None:
        super().__init__("connection_stale", "The connection was changed by somebody else.")
        self.edits = edits


@dataclass(frozen=True, slots=True)
class ValueLoss:
    """The values of its own that an environment loses by a connection's change."""

    environment: Environment
    values: list[HeldValue]

    @property
    def labels(self) -> str:
        """Of their fields, as people read them."""
        return ", ".join(sorted(value.label for value in self.values))


@dataclass(frozen=True, slots=True)
class Losses:
    """What environments lose, by name of the environment. `token` is what agreeing to it sends (removal.token_of)."""

    by_environment: list[ValueLoss]

    @property
    def count(self) -> int:
        return sum(len(loss.values) for loss in self.by_environment)

    @property
    def token(self) -> str:
        return token_of(
            (loss.environment, value.field, value.revision)
            for loss in self.by_environment
            for value in loss.values
            if value.field
        )

    def within(self, environments: frozenset[uuid.UUID] | None) -> "Losses":
        """Those of these environments; None for all."""
        return Losses([x for x in self.by_environment if environments is None or x.environment.pk in environments])


@dataclass(frozen=True, slots=True)
class Consent:
    """Which values may be deleted: those `token` stands for, no others, and in `environments` only, where alone plain values of
    the connection may become others. None is no limit."""

    token: str | None = None
    environments: frozenset[uuid.UUID] | None = None


class ValuesWouldBeLost(Refused):
    """Environments hold values of their own for what would leave, and nobody agreed to that; nothing was written."""

    def __init__(self, losses: Losses) -> None:
        super().__init__("values_would_be_lost", "Values that environments hold would be deleted.")
        self.losses = losses


def losses_with(connection: Connection) -> Losses:
    """What environments would lose with a connection."""
    return _losses(_changed_plans(connection.account, _fields_without(connection), connection.pk, _all_of(connection)))


def save_connection(
    account: Account,
    connection: Connection | None,
    *,
    name: str,
    fields: Sequence[FieldSpec],
    deleted: Collection[uuid.UUID] = (),
    expected_version: str | None = None,
    consent: Consent = Consent(),
    actor: User,
) -> Connection:
    """Create or change a connection, and bring every environment's content in line with it.

    Only the fields in `deleted` leave; those not mentioned at all stay as they are. expected_version: Connection.version
    as it was when the change was thought of, None when nobody asks. Raises StaleConnection, Refused (hidden_values,
    field_twice, saved_meanwhile, quota_reached), ValuesWouldBeLost, and what save_extensions raises for the vault; nothing
    is written then.
    """
    if connection is None:
        with transaction.atomic():  # for now: what is refused has the vault make no keys
            _check_quota(account)
    else:
        _check_version(connection, expected_version)
    _check_once([*(spec.id for spec in fields if spec.id), *set(deleted)])
    existing = {field.pk: field for field in connection.fields.verified()} if connection else {}
    if connection is not None and not existing.keys() >= set(deleted):
        raise StaleConnection(_edits_since(connection, expected_version))
    renamed = connection is not None and connection.name != name
    target = connection or Connection(account=account)
    target.name = name
    touched = sum(_differs(existing.get(spec.id) if spec.id else None, spec) for spec in fields) + len(set(deleted))
    wanted = [_field(target, existing, spec, position) for position, spec in enumerate(fields)]
    unmentioned = existing.keys() - {field.pk for field in wanted} - set(deleted)

    def write() -> None:
        if connection is None:
            _check_quota(account)
        else:
            _check_version(connection, expected_version)
        target.save()
        for field in wanted:
            field.connection = target
            field.signed()
        Field.objects.bulk_update([one for one in wanted if one.pk in existing], EDITED)
        Field.objects.bulk_create(one for one in wanted if one.pk not in existing)
        target.fields.filter(pk__in=deleted).delete()
        for pk in set(deleted) & existing.keys():
            Field.end(pk)
        audit.record(
            account,
            actor=actor,
            type="as.component",
            action="UPDATE" if connection else "ADD",
            subject_id=target.pk,
            message=f"Connection {name} {'changed' if connection else 'created'}{_fields(touched)}",
            properties={"version": target.version},
        )

    def fields_after() -> list[Field]:
        stay = [field for field in fields_of(account) if field.connection_id != target.pk or field.pk in unmentioned]
        return [*stay, *wanted]

    known = {field.path for field in existing.values()}
    _publish(account, fields_after, write, actor, consent, target.pk, known.__contains__, renamed=renamed)
    return target


def delete_connection(connection: Connection, *, consent: Consent = Consent(), actor: User) -> None:
    """Delete a connection; what environments hold for it is deleted with it. Raises what save_connection raises."""
    account = connection.account

    def write() -> None:
        Connection.objects.filter(pk=connection.pk).delete()
        if connection.has_valid_signature():  # another's could have been moved here
            Connection.end(connection.pk)
        audit.record(
            account,
            actor=actor,
            type="as.component",
            action="DELETE",
            subject_id=connection.pk,
            message=f"Connection {connection.name} deleted",
        )

    _publish(account, lambda: _fields_without(connection), write, actor, consent, connection.pk, _all_of(connection))


def _all_of(connection: Connection) -> Callable[[Path], bool]:
    return lambda path: path[:2] == ("connection", str(connection.pk))


def _fields_without(connection: Connection) -> list[Field]:
    """Whatever became of the one that leaves: what was changed past the portal has to be deleted somehow."""
    others = Field.objects.filter(connection__account=connection.account)
    return others.exclude(connection=connection).verified()


def _check_quota(account: Account) -> None:
    quota.check(account, "connections", account.connections.all())


def _check_once(named: list[uuid.UUID]) -> None:
    """A field that is kept and deleted at once would be published as kept, and its values deleted with it."""
    if len(named) != len(set(named)):
        raise Refused("field_twice", "The same field is named more than once, so it is not clear what becomes of it.")


def _check_version(connection: Connection, expected: str | None) -> None:
    """Within a transaction it holds until the end of it."""
    rows = Connection.objects.filter(pk=connection.pk)
    stored = (rows.select_for_update(no_key=True) if transaction.get_connection().in_atomic_block else rows).first()
    if stored is None or expected not in (None, stored.version):
        raise StaleConnection(_edits_since(connection, expected))


def _edits_since(connection: Connection, version: str | None) -> list[AuditEntry]:
    """Every edit after a version, newest first. An entry is a little younger than the version it tells of."""
    since = parse_datetime(version) if version else None
    if since is None:
        return []
    entries = AuditEntry.objects.filter(
        account=connection.account_id, type="as.component", subject_id=str(connection.pk), at__gte=since
    )
    return [entry for entry in entries if entry.properties.get("version") != version]


def _field(connection: Connection, existing: dict[uuid.UUID, Field], spec: FieldSpec, position: int) -> Field:
    field = existing.get(spec.id) if spec.id else None
    if field is None:
        field = Field(key=spec.key, encrypted=spec.encrypted)
    field.connection = connection
    field.label, field.extensible, field.position = spec.label, spec.extensible, position
    field.component_value = "" if field.encrypted else spec.component_value
    return field


def _differs(field: Field | None, spec: FieldSpec) -> bool:
    """Whether a field is new or becomes another one; that others come before it now is none of it."""
    if field is None:
        return True
    component_value = "" if field.encrypted else spec.component_value
    was = (field.label, field.extensible, field.component_value)
    return was != (spec.label, spec.extensible, component_value)


def _fields(count: int) -> str:
    return f": {count} field{'' if count == 1 else 's'}" if count else ""


class _SavedMeanwhile(Exception):
    """What was planned with is no longer there; nothing was written."""


def _publish(
    account: Account,
    fields_after: Callable[[], list[Field]],
    write: Callable[[], None],
    actor: User,
    consent: Consent,
    edited: uuid.UUID,
    leaves: Callable[[Path], bool],
    *,
    renamed: bool = False,
) -> None:
    """Write a connection's change and the new content of every environment it changes, in one transaction.

    One data key for each changed environment (each has a key of its own in the vault), all before the transaction. Within
    it every environment of the account has to be as it was: one without a plan may have got a value meanwhile.
    """
    for _ in range(3):
        versions, environments = versions_of(account), _environments(account)
        try:
            plans = list(_changed_plans(account, fields_after(), edited, leaves, renamed=renamed))
        except (Refused, RowTampered):
            if _environments(account) != environments:  # rows of two revisions do not fit together
                continue
            raise
        _check_reach(plans, consent)
        _check_consent(_losses(plans), consent)  # plans are written only if they still hold then, so this does too
        keys = [save_key_for(plan) for plan in plans]
        try:
            with transaction.atomic():
                if _environments(account, lock=True) != environments or versions_of(account) != versions:
                    raise _SavedMeanwhile
                # Rows of removed fields leave before the fields themselves do, new fields come before their rows.
                for plan in plans:
                    delete_removed(plan)
                write()
                # It told the audit log, which locks the account: no environment comes after this.
                if _environments(account).keys() != environments.keys():
                    raise _SavedMeanwhile
                for plan, key in zip(plans, keys, strict=True):
                    write_plan(plan, key, actor)
                    _tell(plan, actor)
        except (_SavedMeanwhile, ProtectedError):  # protected: by a value that no plan removes
            continue  # plan again on what is there now
        return
    raise Refused(
        "saved_meanwhile", "What environments hold was changed again and again while this was worked out. Try again."
    )


def _environments(account: Account, *, lock: bool = False) -> dict[uuid.UUID, int]:
    """The revision of every environment. Locked, none is saved until the transaction ends."""
    if lock:
        lock_in_order(account.environments.all())
    return dict(account.environments.values_list("pk", "extensions_revision"))


def _tell(plan: Plan, actor: User) -> None:
    """What programs are sent to by now is said by name: a host among it decides who gets their secrets."""
    message = f"Environment extensions of {plan.environment.name} follow a connection's change"
    if plan.redirected:
        names = ", ".join(f"{held.name} / {held.label}" for held in plan.redirected)
        message = f"Programs in {plan.environment.name} get another value of {names}, by a connection's change"
    audit.record(
        plan.environment.account,
        actor=actor,
        type="as.extensions",
        action="EDIT",
        modifier="TARGET" if plan.redirected else "COMPONENT",
        subject_id=plan.environment.pk,
        message=message,
        properties={"revision": plan.revision, "fields": plan.touched()},
    )


def _losses(plans: Iterable[Plan]) -> Losses:
    by_name = sorted(plans, key=lambda plan: plan.environment.name)
    return Losses([ValueLoss(plan.environment, plan.lost) for plan in by_name if plan.lost])


def _check_reach(plans: Iterable[Plan], consent: Consent) -> None:
    """Where a connection points decides whom programs send their secrets to: nobody changes that where he sees nothing."""
    reach = consent.environments
    if reach is not None and any(plan.redirected and plan.environment.pk not in reach for plan in plans):
        raise Refused(
            "hidden_environments",
            "Environments you do not see use a value of this connection that would change, and their programs would follow it. "
            "Only somebody with Account Administration can do this.",
        )


def _check_consent(losses: Losses, consent: Consent) -> None:
    if losses.within(consent.environments) != losses:
        raise Refused(
            "hidden_values",
            "Environments you do not see hold values for it, which would be deleted too. "
            "Only somebody with Account Administration can do this.",
        )
    if losses.count and consent.token not in (None, losses.token):
        raise ValuesWouldBeLost(losses)


def _changed_plans(
    account: Account, fields: list[Field], edited: uuid.UUID, leaves: Callable[[Path], bool], *, renamed: bool = False
) -> Iterable[Plan]:
    published = account.environments.filter(extensions_revision__gt=0).select_related("account__kms")
    for environment in published:
        plan = plan_save(environment, fields, leaves=leaves)
        plan.renamed = renamed and any(path[1] == str(edited) for path in plan.held)
        if not plan.is_empty:
            yield plan
