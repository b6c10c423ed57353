"""Data keys nothing uses leave the vault after the backups' retention, never earlier and never while something uses them."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import models
from django.utils import timezone

from accounts.models import AuditEntry
from atoms import actions as atoms
from atoms.models import Node
from extensions.models import EnvironmentManifest, ExtensionValue
from kmscore.byov.customer import CustomerVault
from operations.models import Operation
from operations.work import sweep
from tests.conftest import HostedVault, Stage
from tests.faulty_vault import failing_at
from tests.kmsruntime.container import bring_your_own_vault, save
from tests.vaults.keys import rotations as look
from tests.vaults.keys.dying import dying_worker, killed_at_every_step
from vaults.hosted.sessions import drop_tokens
from vaults.keys.retirement import due, retire_unused, unused
from vaults.models import ContainerReport, DataKey, KmsSettings, PropertiesFile, SelfCheckValue

pytestmark = pytest.mark.django_db(transaction=True)


def days_pass(days: int) -> None:
    """Since the unused ones were noticed."""
    DataKey.objects.exclude(unused_since=None).update(unused_since=timezone.now() - timedelta(days=days))


def retired() -> int:
    """What the periodic task and the worker do; how many have left by now."""
    retire_unused()
    sweep()
    return DataKey.objects.exclude(retired_at=None).count()


def noticed() -> None:
    retire_unused()


def test_a_replaced_data_key_leaves_the_vault_after_the_retention(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    save(stage, password="two")
    assert len(look.entries(hosted_vault, stage.production)) == 2
    noticed()
    days_pass(34)
    assert retired() == 0
    days_pass(35)
    assert retired() == 1
    used = str(ExtensionValue.objects.get(field=stage.field("password")).data_key_id)
    assert list(look.entries(hosted_vault, stage.production)) == [used]
    told = AuditEntry.objects.filter(action__in=("RETIRE", "RETIRED")).order_by("seq")
    assert [(entry.action, entry.properties["count"]) for entry in told] == [("RETIRE", 1), ("RETIRED", 1)]


def test_it_is_in_no_version_of_the_document_any_more(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    gone = str(DataKey.objects.get().pk)
    save(stage, password="two")
    noticed()
    days_pass(36)
    retired()
    path = f"datakeys/data/{stage.production.pk}/0"
    newest = hosted_vault.root.call("GET", path)["data"]["metadata"]["version"]
    for version in range(1, newest + 1):
        _, answer = hosted_vault.root.status_of("GET", f"{path}?version={version}")
        held = ((answer or {}).get("data") or {}).get("data") or {}
        assert gone not in held, version


def test_one_that_is_used_again_is_kept(stage: Stage, hosted_vault: HostedVault) -> None:
    """As after the restore of an older database."""
    save(stage, password="one")
    save(stage, password="two")
    old, new = DataKey.objects.order_by("created_at")
    noticed()
    old.refresh_from_db()
    assert old.unused_since is not None
    days_pass(99)
    EnvironmentManifest.objects.update(data_key=old)
    assert retired() == 0
    assert DataKey.objects.get(pk=old.pk).unused_since is None
    assert len(look.entries(hosted_vault, stage.production)) == 2


def test_one_that_is_used_again_after_the_request_is_kept(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    save(stage, password="two")
    old = DataKey.objects.earliest("created_at")
    noticed()
    days_pass(99)
    retire_unused()
    assert Operation.objects.filter(kind="vaults.retire_keys").count() == 1
    EnvironmentManifest.objects.update(data_key=old)
    sweep()
    assert DataKey.objects.exclude(retired_at=None).count() == 0
    assert str(old.pk) in look.entries(hosted_vault, stage.production)


@pytest.mark.parametrize("model", [ExtensionValue, EnvironmentManifest, KmsSettings, PropertiesFile, SelfCheckValue])
def test_every_table_that_refers_to_data_keys_is_asked(stage: Stage, model: Any) -> None:
    """Those of today by name, so that this fails when one of them is not asked."""
    sql = str(unused().query)
    assert model._meta.db_table in sql


def test_no_table_that_refers_to_data_keys_is_left_out() -> None:
    from django.apps import apps

    sql = str(unused().query)
    for model in apps.get_models():
        for field in model._meta.get_fields():
            if isinstance(field, models.ForeignKey) and field.related_model is DataKey:
                assert f'"{model._meta.db_table}"' in sql, model


def test_a_pending_switch_keeps_the_key_of_the_file_before(stage: Stage, hosted_vault: HostedVault) -> None:
    node = Node.objects.create(atom=stage.atom, state="enrolled", host_name="host1")
    report = ContainerReport.objects.create(node=node, reported_at=timezone.now(), settings_revision=1)
    vault = CustomerVault("https://vault.example.com:8200", "hvs.CAESI" + "x" * 60)
    revision = bring_your_own_vault(stage, stage.atom, vault)
    revision = bring_your_own_vault(stage, stage.atom, vault, wrapped=True)
    noticed()
    days_pass(99)
    assert unused().exists()
    assert retired() == 0
    report.settings_revision = revision
    report.save()
    assert retired() == 1
    assert DataKey.objects.get(recipient=stage.atom.pk, retired_at=None) == PropertiesFile.objects.get().data_key


def test_the_keys_of_a_deleted_environment_leave_too(stage: Stage, hosted_vault: HostedVault) -> None:
    for atom in (stage.atom, stage.second):
        atoms.detach(atom, actor=stage.alice)
    save(stage, password="one")
    atoms.delete_environment(stage.production, expected_revision=1, actor=stage.alice)
    noticed()
    days_pass(36)
    assert retired() == 1
    assert look.entries(hosted_vault, stage.production) == {}


def test_many_leave_in_batches_and_twice_is_once(stage: Stage, hosted_vault: HostedVault) -> None:
    look.filled(hosted_vault, stage.production, 950)
    save(stage, password="kept")
    noticed()
    days_pass(36)
    assert retired() == 950
    assert len(look.entries(hosted_vault, stage.production)) == 1
    assert retired() == 950
    operation = Operation.objects.get(kind="vaults.retire_keys")
    assert (operation.state, operation.done, operation.total) == (Operation.State.DONE, 950, 950)


def test_the_number_of_queries_does_not_grow_with_the_keys(stage: Stage, hosted_vault: HostedVault) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    counts = []
    for _ in range(2):
        look.filled(hosted_vault, stage.production, 200)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            retire_unused()
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert due().count() == 0


def test_the_sweep_command_retires_too(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="one")
    save(stage, password="two")
    call_command("sweep", stdout=open("/dev/null", "w"))  # noqa: SIM115
    days_pass(36)
    call_command("sweep", stdout=open("/dev/null", "w"))  # noqa: SIM115
    assert len(look.entries(hosted_vault, stage.production)) == 1


@pytest.mark.parametrize("applied", [False, True])
def test_a_vault_that_fails_halfway_is_waited_for(
    stage: Stage, hosted_vault: HostedVault, settings: Any, applied: bool
) -> None:
    look.filled(hosted_vault, stage.production, 5)
    noticed()
    days_pass(36)
    retire_unused()
    operation = Operation.objects.get(kind="vaults.retire_keys")
    with failing_at(hosted_vault.address, "datakeys/data", applied=applied) as address:
        settings.VAULT_ADDR = address
        drop_tokens()
        sweep()
        operation.refresh_from_db()
        assert (operation.state, operation.error_code) == (Operation.State.WAITING, "vault_failing")
        assert not DataKey.objects.exclude(retired_at=None).exists()
    settings.VAULT_ADDR = hosted_vault.address
    drop_tokens()
    look.finished(operation)
    assert look.entries(hosted_vault, stage.production) == {}


@pytest.mark.slow
def test_a_worker_killed_at_any_step_leaves_the_same_end(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="kept")
    kept = look.entries(hosted_vault, stage.production)

    def begin() -> Operation:
        look.filled(hosted_vault, stage.production, 3)
        noticed()
        days_pass(36)
        retire_unused()
        return Operation.objects.filter(kind="vaults.retire_keys").latest("requested_at")

    def check(operation: Operation) -> None:
        operation.refresh_from_db()
        assert (operation.state, operation.done, operation.details["retired"]) == (Operation.State.DONE, 3, 3)
        assert look.entries(hosted_vault, stage.production) == kept
        assert AuditEntry.objects.filter(action="RETIRED", properties__operation=str(operation.pk)).count() == 1

    with dying_worker(hosted_vault) as worker:
        assert killed_at_every_step(worker, begin, check) >= 10
