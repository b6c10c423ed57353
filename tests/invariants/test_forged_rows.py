"""I1 and I3 against a writer at the database: no row that was pushed elsewhere carries anybody's access with it."""

from collections.abc import Callable

import pytest
from django.utils import timezone

from accounts.rows import RowTampered
from atoms import actions as atoms
from atoms.models import Atom, Environment, Node, NodeCredential
from kmscore.refused import Refused
from operations.models import Operation
from operations.work import sweep
from tests.atomapi.test_enrol import Machine, enrolled
from tests.conftest import HostedVault, Stage
from tests.extensions.test_save_extensions import save
from vaults.keys.provision import activate_kms
from vaults.models import Enrolment, SecretId

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def foreign(stage: Stage, hosted_vault: HostedVault) -> tuple[Machine, Atom, Environment]:
    """Charlie's own machine, enrolled in his own account, with its Atom and environment."""
    cast = stage.cast
    activate_kms(cast.other, actor="tests")
    cast.other.refresh_from_db()
    place = atoms.create_environment(cast.other, name="His", classification="PROD", actor=cast.charlie)
    atom = atoms.create_atom(cast.other, name="His Atom", type="MOLECULE", environment=place, actor=cast.charlie)
    sweep()
    machine = Machine(atoms.create_installer_token(atom, minutes=60, actor=cast.charlie)[1])
    delivery = machine.delivery()
    from kmscore.vaultclient.client import Vault

    accessors = [machine.log_in(Vault(hosted_vault.address), grant)[1] for grant in delivery["grants"]]
    assert machine.post(f"enrolments/{delivery['enrolment']}/confirm", {"accessors": accessors}).status_code == 200
    save(stage, 0, password="for Acme's containers only")
    return machine, atom, place


MOVES: dict[str, Callable[[Stage, Atom, Environment], object]] = {
    "its node onto our Atom": lambda stage, atom, place: Node.objects.update(atom=stage.atom),
    "its node and credential onto our Atom": lambda stage, atom, place: (
        Node.objects.update(atom=stage.atom),
        NodeCredential.objects.update(atom=stage.atom, account=stage.account),
    ),
    "its Atom into our account": lambda stage, atom, place: Atom.objects.filter(pk=atom.pk).update(
        account=stage.account
    ),
    "our environment into its account": lambda stage, atom, place: Environment.objects.filter(
        pk=stage.production.pk
    ).update(account=stage.cast.other),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_row_pushed_across_accounts_delivers_nothing_of_ours(
    stage: Stage, foreign: tuple[Machine, Atom, Environment], move: str
) -> None:
    machine, atom, place = foreign
    MOVES[move](stage, atom, place)
    answer = machine.get("sync", machine.sync)
    found = answer.json()
    assert answer.status_code in (200, 401, 403)
    assert found.get("environment", {}).get("id") in (None, str(place.pk))
    asked = machine.post("credentials", {"reason": "lost"}, machine.sync)
    if asked.status_code == 202:
        sweep()
        grants = machine.get(f"enrolments/{asked.json()['enrolment']}").json().get("grants", [])
        assert {grant["recipient"] for grant in grants} <= {str(atom.pk), str(place.pk)}
    ours = (stage.production.pk, stage.atom.pk)
    assert not SecretId.objects.filter(recipient_id__in=ours).exists()


def test_an_environment_pushed_into_another_account_cannot_be_attached_there(
    stage: Stage, foreign: tuple[Machine, Atom, Environment]
) -> None:
    _, atom, _ = foreign
    Environment.objects.filter(pk=stage.production.pk).update(account=stage.cast.other)
    stage.production.refresh_from_db()
    with pytest.raises(RowTampered):
        atoms.attach(atom, stage.production, actor=stage.cast.charlie)
    with pytest.raises(RowTampered):
        stage.production.save()


def test_an_enrolment_pointed_at_another_environment_is_not_served(
    stage: Stage, foreign: tuple[Machine, Atom, Environment]
) -> None:
    machine, _, _ = foreign
    enrolment = Enrolment.objects.get(node__atom__account=stage.cast.other)
    Enrolment.objects.filter(pk=enrolment.pk).update(environment=stage.production, state=Enrolment.State.REQUESTED)
    operation = Operation.objects.get(subject_id=enrolment.pk)
    Operation.objects.filter(pk=operation.pk).update(state=Operation.State.PENDING, run_after=timezone.now())
    sweep()
    operation.refresh_from_db()
    assert (operation.state, operation.error_code) == (Operation.State.FAILED, "record_forged")
    assert machine.get(f"enrolments/{enrolment.pk}").json()["code"] == "record_forged"


def test_a_withdrawn_token_ends_the_enrolment_it_began(stage: Stage, hosted_vault: HostedVault) -> None:
    first = Machine(atoms.create_installer_token(stage.atom, minutes=60, actor=stage.alice)[1])
    enrolment = first.enrol().json()["enrolment"]
    sweep()
    atoms.create_installer_token(stage.atom, minutes=60, actor=stage.alice)  # withdraws the first
    assert first.get(f"enrolments/{enrolment}").status_code == 401
    assert first.enrol().json()["code"] == "installer_token_withdrawn"
    assert Node.objects.get().state == Node.State.REVOKED


def test_an_atom_never_gets_a_second_node(stage: Stage, hosted_vault: HostedVault) -> None:
    token = atoms.create_installer_token(stage.atom, minutes=60, actor=stage.alice)[1]
    late = Machine(token)
    delivery = late.delivery()
    from kmscore.vaultclient.client import Vault

    accessors = [late.log_in(Vault(hosted_vault.address), grant)[1] for grant in delivery["grants"]]
    Node.objects.create(atom=stage.atom, state=Node.State.ENROLLED)
    answer = late.post(f"enrolments/{delivery['enrolment']}/confirm", {"accessors": accessors})
    assert answer.json()["code"] == "node_exists"


def test_a_machine_that_is_still_enrolling_cannot_ask_for_more(stage: Stage, hosted_vault: HostedVault) -> None:
    machine = Machine(atoms.create_installer_token(stage.atom, minutes=60, actor=stage.alice)[1])
    machine.delivery()
    assert machine.post("credentials", {"reason": "lost"}).status_code == 401


def test_asking_without_end_is_cut(stage: Stage, hosted_vault: HostedVault) -> None:
    machine, _ = enrolled(stage, hosted_vault)
    codes = set()
    for _ in range(32):
        answer = machine.post("credentials", {"reason": "lost"}, machine.sync)
        codes.add(answer.status_code)
        Enrolment.objects.filter(state=Enrolment.State.REQUESTED).update(deliveries=Enrolment.DELIVERIES)
    assert codes == {202, 429}


def test_a_machine_that_never_finished_is_revoked(stage: Stage, hosted_vault: HostedVault) -> None:
    from datetime import timedelta

    import time_machine

    from vaults.logins.enrolment import revoke_unfinished

    machine = Machine(atoms.create_installer_token(stage.atom, minutes=30, actor=stage.alice)[1])
    machine.delivery()
    revoke_unfinished()
    assert Node.objects.get().state == Node.State.ENROLLING
    with time_machine.travel(timezone.now() + timedelta(minutes=46), tick=True):
        revoke_unfinished()
        sweep()
    assert Node.objects.get().state == Node.State.REVOKED
    assert not SecretId.objects.filter(destroyed_at=None).exists()


def test_a_delivery_that_crosses_a_revocation_leaves_nothing_alive(
    stage: Stage, hosted_vault: HostedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaults.hosted import calls
    from vaults.logins import enrolment

    machine = Machine(atoms.create_installer_token(stage.atom, minutes=60, actor=stage.alice)[1])
    pending = machine.enrol().json()["enrolment"]
    sweep()
    issue = calls.wrapped_secret_id

    def revoked_meanwhile(*args: object, **kwargs: object) -> object:
        wrapping = issue(*args, **kwargs)  # type: ignore[arg-type]
        for node in Node.objects.filter(state=Node.State.ENROLLING):
            atoms.revoke_node(node, actor=stage.alice)
            sweep()
        return wrapping

    monkeypatch.setattr(calls, "wrapped_secret_id", revoked_meanwhile)
    rows = Enrolment.objects.select_related("node__atom__account__kms")
    assert enrolment.deliver(rows.get(pk=pending)) is None
    with pytest.raises(Refused):
        enrolment.deliver(rows.get(pk=pending))
    sweep()
    assert not SecretId.objects.filter(destroyed_at=None).exists()
