"""Saving what environments hold. Vault first, database second (DESIGN.md §3)."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Account, AuditEntry, User
from accounts.rows import RowTampered
from atoms.models import Environment
from extensions.models import EnvironmentManifest, ExtensionValue, Field, ListTampered, ProcessProperty
from extensions.plan import FieldChange, Plan, PropertyChange, plan_save
from kmscore.refused import Refused
from vaults.hosted import sealing


@dataclass(frozen=True, slots=True)
class Save:
    """One save of somebody else's: who, when, and which fields ([connection, label, what happened])."""

    by: str
    at: object
    fields: list[list[str]]


class StaleRevision(Refused):
    """Somebody saved meanwhile; nothing was written. `saves` tells who changed what, newest first."""

    def __init__(self, saves: list[Save]) -> None:
        super().__init__("revision_stale", "The environment was changed by somebody else.")
        self.saves = saves


@dataclass(frozen=True, slots=True)
class Saved:
    """What a save did: the environment's revision now, and how many things somebody asked for changed."""

    revision: int
    changed: int


def save_extensions(
    environment: Environment,
    field_changes: Iterable[FieldChange],
    property_changes: Iterable[PropertyChange] = (),
    *,
    expected_revision: int,
    actor: User,
) -> Saved:
    """Save all of it or nothing. Returns after both stores have it durably.

    Raises StaleRevision, Refused (no_component_value, value_forged, sealed_once), RowTampered, and what sealing.new_save_key
    raises, before anything was written to the database.
    """
    environment = _current(environment)
    _check_revision(environment, expected_revision)
    versions = versions_of(environment.account)
    fields, changes = fields_of(environment.account), list(field_changes)
    if not {change.field.pk for change in changes} <= {field.pk for field in fields if field.extensible}:
        raise StaleRevision([])  # a field has left since the changes were thought of, and its values with it
    plan = _plan(environment, fields, changes, property_changes)
    if plan.is_empty:
        return Saved(environment.extensions_revision, 0)
    count = len(plan.asked)
    write(plan, save_key_for(plan), versions, "EDIT", f"saved: {count} changed", actor)
    return Saved(plan.revision, count)


def republish(environment: Environment, *, above: int, actor: User | str) -> int:
    """Seal what an environment holds under a revision higher than `above`, changing nothing of it: after a restore.

    Containers then ask for everything anew, because what they hold may be of the abandoned timeline.

    Returns the revision, 0 when nothing was ever saved. Raises StaleRevision (saved meanwhile), and what save_extensions
    raises for the vault.
    """
    environment = _current(environment)
    if not environment.extensions_revision:
        return 0
    versions = versions_of(environment.account)
    plan = _plan(environment, fields_of(environment.account))
    plan.move_to(max(plan.revision, above + 1))
    plan.restored = max(
        plan.restored + 1, int(time.time() * 1000)
    )  # higher than after any other backup that was put back
    key = sealing.new_save_key(environment)
    write(plan, key, versions, "REPUBLISH", f"sealed anew as revision {plan.revision}", actor)
    return plan.revision


def _current(environment: Environment) -> Environment:
    """As it stands there by now. Raises RowTampered."""
    found = Environment.objects.select_related("account__kms").get(pk=environment.pk)
    return found.verified(pk=environment.pk, account_id=environment.account_id)


def _plan(
    environment: Environment,
    fields: Sequence[Field],
    field_changes: Iterable[FieldChange] = (),
    property_changes: Iterable[PropertyChange] = (),
) -> Plan:
    """What plan_save does. Rows of two revisions do not fit together either: somebody may have saved while they were read."""
    expected = environment.extensions_revision
    try:
        return plan_save(environment, fields, field_changes, property_changes)
    except (Refused, RowTampered):
        environment.refresh_from_db(fields=["extensions_revision"])
        _check_revision(environment, expected)
        raise


def write(
    plan: Plan,
    key: sealing.SaveKey | None,
    versions: Mapping[uuid.UUID, datetime],
    action: str,
    deed: str,
    actor: User | str,
) -> None:
    """In one transaction, what was planned and the audit entry (its action, what was done). versions: of before the plan.

    Raises StaleRevision.
    """
    environment = plan.environment
    with transaction.atomic():
        locked = Environment.objects.select_for_update(no_key=True).get(pk=environment.pk).verified(pk=environment.pk)
        _check_revision(locked, environment.extensions_revision)
        _check_versions(environment, versions)
        write_plan(plan, key, actor)
        audit.record(
            environment.account,
            actor=actor,
            type="as.extensions",
            action=action,
            subject_id=environment.pk,
            message=f"Environment extensions of {environment.name} {deed}",
            properties={"revision": plan.revision, "fields": plan.touched()},
        )


def fields_of(account: Account) -> list[Field]:
    """Of the account's connections, extensible or not. Raises RowTampered."""
    return Field.objects.filter(connection__account=account).verified()


def versions_of(account: Account) -> dict[uuid.UUID, datetime]:
    """Of each connection, when it was changed. Read before the fields, it tells later whether these still are what they were."""
    return dict(account.connections.values_list("pk", "changed_at"))


def saves_since(environment: Environment, revision: int) -> list[Save]:
    """Every save after a revision, newest first."""
    entries = AuditEntry.objects.filter(
        account=environment.account_id,
        type="as.extensions",
        subject_id=str(environment.pk),
        properties__revision__gt=revision,
    )
    return [Save(row.actor_name, row.at, row.properties.get("fields", [])) for row in entries]


def _check_revision(environment: Environment, expected: int) -> None:
    if environment.extensions_revision != expected:
        raise StaleRevision(saves_since(environment, expected))


def _check_versions(environment: Environment, expected: Mapping[uuid.UUID, datetime]) -> None:
    """The environment is locked, and no connection changes without that: the fields planned with stay what they are."""
    if versions_of(environment.account) != expected:
        raise StaleRevision([])


def save_key_for(plan: Plan) -> sealing.SaveKey | None:
    """The save's data key. An account that never had KMS can hold plain values only, unsealed and unlisted.

    While KMS is disabled plain values wait too: the list that protects them could not be sealed.
    """
    account = plan.environment.account
    # With keys and no row of a Key Management Service, that row was taken away past the portal.
    never = not hasattr(account, "kms") and not account.recipients.exists()
    if not plan.secrets and never:
        return None
    return sealing.new_save_key(plan.environment)


def write_plan(plan: Plan, key: sealing.SaveKey | None, actor: User | str) -> None:
    """Inside the transaction: rows, manifest, the environment's new revision."""
    now, environment = timezone.now(), plan.environment
    if key is not None:
        key.record()
    values, properties = [], []
    for path, held in plan.written.items():
        common = {"environment": environment, "revision": plan.revision, "set_at": now}
        if held.field is None:
            properties.append(ProcessProperty(name=held.label, plain=held.plain, **common))
            continue
        sealed = None
        if held.form == "sealed":
            assert key is not None
            sealed = key.seal_value(path, plan.revision, plan.secrets[path].reveal())
        values.append(
            ExtensionValue(
                field=held.field,
                form=held.form,
                plain=held.plain,
                sealed=sealed,
                data_key_id=key.id if key and sealed else None,
                **common,
            )
        )
    _upsert(ExtensionValue, values, ["environment", "field"], ["form", "plain", "sealed", "data_key"])
    _upsert(ProcessProperty, properties, ["environment", "name"], ["plain"])
    delete_removed(plan)
    names = [held.label for held in plan.removed.values() if held.field is None]
    ProcessProperty.objects.filter(environment=environment, name__in=names).delete()
    _write_manifest(plan, key, now, str(actor.pk) if isinstance(actor, User) else "")
    if not environment.has_list:
        environment.has_list = True
        environment.save(update_fields=["has_list"])
    Environment.objects.filter(pk=environment.pk).update(extensions_revision=plan.revision, extensions_changed_at=now)


def delete_removed(plan: Plan) -> None:
    """Inside the transaction: the values a plan removes, and no other."""
    gone = [held.field.pk for held in plan.removed.values() if held.field is not None]
    ExtensionValue.objects.filter(environment=plan.environment, field__in=gone).delete()


def _upsert(model: type, rows: Sequence[object], unique: list[str], updated: list[str]) -> None:
    """One INSERT … ON CONFLICT for all rows."""
    if rows:
        model.objects.bulk_create(  # type: ignore[attr-defined]
            rows,
            update_conflicts=True,
            unique_fields=unique,
            update_fields=[*updated, "revision", "set_at"],
        )


def _write_manifest(plan: Plan, key: sealing.SaveKey | None, now: datetime, by: str) -> None:
    """The list, from the one before it and what changes; with a key also sealed, for the containers."""
    new_key = str(key.id) if key else ""
    found = EnvironmentManifest.objects.filter(environment=plan.environment)
    row = found.defer("sealed").first()
    if row is not None and not (row.is_newest() and row.environment_id == plan.environment.pk):
        raise ListTampered(plan.environment)  # its id and generation would be signed
    wanted = EnvironmentManifest(
        pk=row.pk if row else uuid.uuid4(),
        generation=row.generation if row else 0,
        environment=plan.environment,
        revision=plan.revision,
        listed=plan.listing(new_key, int(now.timestamp()), by).encode(),
        data_key_id=key.id if key else None,
        sealed=key.seal_manifest(plan.manifest(key.id)) if key else None,
    ).signed()
    EnvironmentManifest.objects.bulk_create(
        [wanted],
        update_conflicts=True,
        unique_fields=["environment"],
        update_fields=["revision", "listed", "data_key", "sealed", "generation", "signature"],
    )
