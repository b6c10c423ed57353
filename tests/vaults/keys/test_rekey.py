"""A new at-rest data key on request: the container takes it at its next sync, and the operation ends when all have."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from atoms.models import Atom, Node
from kmscore.refused import Refused
from operations import actions as operations
from operations.models import Operation
from operations.work import sweep
from tests.conftest import Stage
from tests.kmsruntime.byov_machine import HELD, Byov, assert_clean
from tests.kmsruntime.conftest import another, byov, container, customers_vault, enrolled, held
from tests.kmsruntime.container import Container
from vaults.keys.rekey import request_rekey
from vaults.models import ContainerReport, KmsAccount

__all__ = ["another", "byov", "container", "customers_vault", "enrolled", "held"]
pytestmark = pytest.mark.django_db(transaction=True)


def asked(stage: Stage, *atoms: Atom) -> Operation:
    return request_rekey(stage.account, atoms or [stage.atom], actor=stage.alice)


def looked(operation: Operation) -> Operation:
    """The worker looks once more."""
    Operation.objects.filter(pk=operation.pk, state="waiting").update(run_after=timezone.now() - timedelta(seconds=1))
    sweep()
    operation.refresh_from_db()
    return operation


def ended(operation: Operation) -> bool:
    """Whether it comes to its end; the portal's own worker may be at it."""
    for _ in range(100):
        if looked(operation).is_finished:
            return operation.state == Operation.State.DONE
        time.sleep(0.1)
    return False


def key_of(machine: Container) -> tuple[str, str]:
    """Id and wrapped form of the data key in use."""
    header = machine.synchroniser().sealed_state.header()
    assert header is not None
    return header.key_id, header.wrapped


def node(stage: Stage, name: str, *, atom: Atom | None = None, seen: int = 0, met: int | None = None) -> Node:
    """An enrolled node, last seen so many seconds ago; met: the request it reported."""
    now = timezone.now()
    row = Node.objects.create(
        atom=atom or stage.atom, host_name=name, state="enrolled", last_seen_at=now - timedelta(seconds=seen)
    )
    if met is not None:
        ContainerReport.objects.create(node=row, reported_at=now, rekey_revision=met)
    return row


# -- the portal --------------------------------------------------------------------------------------------------------


def test_it_waits_for_every_enrolled_container_and_names_those_that_are_offline(stage: Stage) -> None:
    quick = node(stage, "quick", met=0)
    node(stage, "gone", seen=3600)
    Node.objects.create(atom=stage.atom, host_name="revoked", state="revoked")
    operation = looked(asked(stage))
    assert (operation.state, operation.done, operation.total) == (Operation.State.WAITING, 0, 2)
    assert operation.error_sentence == "Waiting for 2 of 2 containers. 1 of them is offline."
    ContainerReport.objects.filter(node=quick).update(rekey_revision=1)
    looked(operation)
    assert (operation.done, operation.troubles) == (1, 0)
    assert [line["host_name"] for line in operation.details["waiting"]] == ["gone"]
    assert 0 < (operation.run_after - timezone.now()).total_seconds() <= 15
    Node.objects.filter(host_name="gone").update(state="revoked")
    looked(operation)
    assert operation.state == Operation.State.DONE
    assert AuditEntry.objects.filter(action__in=("REKEY", "REKEYED")).count() == 2


def test_only_the_atoms_that_were_asked_take_a_new_key(stage: Stage) -> None:
    node(stage, "one")
    asked(stage)
    revisions = {atom.name: atom.rekey_revision for atom in Atom.objects.all()}
    assert revisions == {"Orders Atom": 1, "Second Atom": 0}


def test_the_same_request_twice_is_one(stage: Stage) -> None:
    node(stage, "one")
    first = asked(stage)
    assert asked(stage) == first
    assert Atom.objects.get(pk=stage.atom.pk).rekey_revision == 1
    looked(first)
    operations.cancel(first, actor=stage.alice)
    assert looked(first).state == Operation.State.CANCELLED
    assert asked(stage) != first
    assert Atom.objects.get(pk=stage.atom.pk).rekey_revision == 2


def test_all_atoms_are_asked_by_one_update(stage: Stage) -> None:
    node(stage, "one", met=0)
    node(stage, "two", atom=stage.second, met=0)
    operation = asked(stage, stage.atom, stage.second)
    assert (operation.subject_id, operation.total) == (stage.account.pk, 2)
    ContainerReport.objects.update(rekey_revision=1)
    assert looked(operation).state == Operation.State.DONE


def test_without_containers_or_without_kms_nothing_is_asked(stage: Stage) -> None:
    with pytest.raises(Refused) as refused:
        asked(stage)
    assert refused.value.code == "no_containers"
    node(stage, "one")
    kms = KmsAccount.objects.get(account=stage.account)
    kms.state = KmsAccount.State.DISABLED
    kms.save()
    with pytest.raises(Refused) as refused:
        asked(stage)
    assert refused.value.code == "kms_inactive"


# -- the container -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hosted", "plain", "wrapped"])
def test_the_container_seals_what_it_holds_under_a_new_key_at_its_next_sync(held: Byov, mode: str) -> None:
    """With its own vault and without; nothing of the content changed."""
    machine = held.container
    if mode != "hosted":
        held.turn_on(wrapped=mode == "wrapped")
        machine.sync()
    synchroniser = machine.synchroniser()
    assert synchroniser.sync().result == "unchanged"
    before = key_of(machine)
    operation = asked(machine.stage)
    assert synchroniser.sync().result == "updated"
    after = key_of(machine)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert held.get() == HELD
    assert held.report().rekey_revision == 1
    assert not list(machine.directory.glob(f"*{before[0]}*")), "the key before it is gone from the disk"
    if mode == "wrapped":
        assert_clean(machine)
    assert synchroniser.sync().result == "unchanged"
    assert key_of(machine) == after
    assert ended(operation)


def test_a_vault_that_gives_no_key_leaves_the_request_open(held: Byov) -> None:
    machine = held.container
    held.turn_on()
    machine.sync()
    before = key_of(machine)
    asked(machine.stage)
    customer = held.customer
    customer.root.call("POST", f"transit/keys/{held.key}/config", {"deletion_allowed": True})
    customer.root.call("DELETE", f"transit/keys/{held.key}")
    with pytest.raises(Exception, match=r"\w"):
        machine.sync()
    assert key_of(machine) == before
    assert held.report().rekey_revision == 0
    customer.make_key(held.key)
    machine.sync()
    assert key_of(machine) != before
    assert held.report().rekey_revision == 1


def test_a_container_that_holds_nothing_reports_it_all_the_same(enrolled: Container) -> None:
    enrolled.sync()
    operation = asked(enrolled.stage)
    enrolled.sync()
    assert ended(operation)


def test_an_older_portal_that_says_nothing_of_it_is_understood() -> None:
    import uuid

    from kmsruntime.delivery.read import read_delivery

    answer = {
        "format": 1, "account": str(uuid.uuid4()), "atom": {"id": str(uuid.uuid4())}, "attachment_revision": 1,
        "settings_revision": 1, "environment": None, "revision": 0, "manifest": None, "values": [], "plain": [],
    }  # fmt: skip
    assert read_delivery(answer).rekey_revision == 0
    assert read_delivery(answer | {"rekey_revision": 3}).rekey_revision == 3
