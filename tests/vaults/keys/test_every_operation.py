"""Every kind of operation, killed at every step, ends as if nobody had been killed. A new kind without a test fails."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from atoms import actions as atoms
from atoms.models import Atom, Node
from operations import work
from operations.models import Operation
from operations.work import sweep
from tests.conftest import HostedVault, Stage
from tests.vaults.keys.dying import dying_worker, killed_at_every_step, leases_end
from tests.vaults.keys.rotations import recipient_of
from tests.vaults.logins.made_logins import forged
from vaults.hosted import calls
from vaults.keys import rekey
from vaults.logins import alarms, enrolment
from vaults.models import ContainerReport, Enrolment, LoginAlarm, Recipient, SecretId

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
# Killed at every step in the files that are about them.
ELSEWHERE = {
    "vaults.disable": "test_ending.py",
    "vaults.enable": "test_ending.py",
    "vaults.shred": "test_shredding.py",
    "vaults.rotate": "test_rotation.py",
    "vaults.retire_keys": "test_retiring.py",
    "vaults.revoke_nodes": "test_revocation.py",
}
Begin = Callable[[Stage], Any]
Check = Callable[[Stage, Any], None]


def settle() -> None:
    for _ in range(3):
        leases_end()
        sweep()


def molecule(stage: Stage) -> Atom:
    """It has as many nodes as a test wants."""
    found = Atom.objects.filter(name="Molecule").first()
    if found is None:
        environment = stage.production
        found = atoms.create_atom(
            stage.account, name="Molecule", type="MOLECULE", environment=environment, actor=stage.alice
        )
        settle()
        found.refresh_from_db()
    return found


def begun(stage: Stage) -> Enrolment:
    token = atoms.create_installer_token(molecule(stage), minutes=30, actor=stage.alice)[1]
    hashes = {"sync_hash": os.urandom(32), "settings_hash": os.urandom(32)}
    return enrolment.begin(token, host_name="host", version="1", **hashes)


def issued(stage: Stage) -> list[SecretId]:
    """The logins of a new node, issued and still good."""
    ready = begun(stage)
    settle()
    ready = Enrolment.objects.select_related("node__atom__account__kms", "environment").get(pk=ready.pk)
    assert enrolment.deliver(ready)
    Node.objects.filter(pk=ready.node_id).update(state=Node.State.ENROLLED)
    return list(ready.secret_ids.all())


def are_gone(rows: list[SecretId]) -> None:
    for row in rows:
        assert calls.look_up_secret_id(row.mount, row.recipient_id, row.accessor) is None
        row.refresh_from_db()
        assert row.destroyed_at is not None


def new_environment(stage: Stage) -> Any:
    name = f"Environment {stage.account.environments.count()}"
    return atoms.create_environment(stage.account, name=name, classification="TEST", actor=stage.alice)


def new_atom(stage: Stage) -> Any:
    name = f"Atom {stage.account.atoms.count()}"
    return atoms.create_atom(stage.account, name=name, type="ATOM", environment=None, actor=stage.alice)


def has_keys(stage: Stage, made: Any) -> None:
    made.refresh_from_db()
    assert made.provisioned_at is not None
    row = Recipient.objects.get(pk=made.pk)
    assert str(made.pk) in calls.roles(row.mounts.logins)
    assert calls.key_versions(recipient_of(made)).latest == 1


def is_ready(stage: Stage, made: Enrolment) -> None:
    made.refresh_from_db()
    assert made.state == Enrolment.State.READY
    assert made.wrapped_atom_role_id
    assert made.wrapped_environment_role_id


def superseded(stage: Stage) -> list[SecretId]:
    rows = issued(stage)
    enrolment.report_intrusion(rows[0].enrolment)
    return rows


def left(stage: Stage) -> list[SecretId]:
    """The environment's logins of an Atom that is moved."""
    rows = [row for row in issued(stage) if row.mount == "environments"]
    atom = molecule(stage)
    target = stage.test if atom.environment == stage.production else stage.production
    atoms.attach(atom, target, actor=stage.alice)
    return rows


def forgotten(stage: Stage) -> list[SecretId]:
    rows = issued(stage)
    atoms.delete_atom(molecule(stage), actor=stage.alice)
    return rows


def alarmed(stage: Stage) -> LoginAlarm:
    accessor = forged("environments", stage.production.pk)
    alarm = LoginAlarm(account=stage.account, mount="environments", role=str(stage.production.pk), accessor=accessor)
    alarm.save()
    alarms.request_destruction(alarm, actor=stage.alice)
    return alarm


def is_destroyed(stage: Stage, alarm: LoginAlarm) -> None:
    alarm.refresh_from_db()
    assert alarm.destroyed_at is not None
    assert calls.look_up_secret_id(alarm.mount, alarm.role, alarm.accessor) is None


def asked_for_new_keys(stage: Stage) -> Any:
    """By a node that has done it already, so that the operation can end."""
    node = Node.objects.filter(atom=stage.atom).first() or Node.objects.create(atom=stage.atom, state="enrolled")
    operation = rekey.request_rekey(stage.account, [stage.atom], actor=stage.alice)
    stage.atom.refresh_from_db()
    ContainerReport.objects.update_or_create(
        node=node, defaults={"reported_at": node.created_at, "rekey_revision": stage.atom.rekey_revision}
    )
    return operation


def waited_for_all(stage: Stage, operation: Operation) -> None:
    operation.refresh_from_db()
    assert (operation.state, operation.done, operation.details["containers"]) == (Operation.State.DONE, 1, 1)


HERE: dict[str, tuple[Begin, Check, int]] = {
    "vaults.provision_environment": (new_environment, has_keys, 4),
    "vaults.provision_atom": (new_atom, has_keys, 6),
    "vaults.wrap_role_ids": (begun, is_ready, 4),
    "vaults.destroy_secret_ids": (superseded, lambda _, rows: are_gone(rows), 4),
    "vaults.leave_environment": (left, lambda _, rows: are_gone(rows), 2),
    "vaults.forget_atom": (forgotten, lambda _, rows: are_gone(rows), 4),
    "vaults.destroy_login": (alarmed, is_destroyed, 4),
    "vaults.rekey": (asked_for_new_keys, waited_for_all, 2),
}


def test_every_kind_is_killed_somewhere() -> None:
    kinds = {kind for kind in work._kinds if not kind.startswith("tests.")}
    assert kinds == set(HERE) | set(ELSEWHERE)


@pytest.mark.parametrize("kind", HERE)
def test_killed_at_every_step_it_comes_to_the_same_end(stage: Stage, hosted_vault: HostedVault, kind: str) -> None:
    begin, check, least = HERE[kind]
    molecule(stage)
    queue = work.queue_of(kind)
    with dying_worker(hosted_vault, "watch" if queue == "watch" else "worker") as worker:

        def checked(made: Any) -> None:
            assert not Operation.objects.unfinished().filter(kind=kind).exists()
            settle()  # what other processes do of it
            check(stage, made)
            assert not Operation.objects.unfinished().exists()
            assert not Operation.objects.filter(kind=kind, state=Operation.State.FAILED).exists()

        assert killed_at_every_step(worker, lambda: begin(stage), checked, queue) >= least
