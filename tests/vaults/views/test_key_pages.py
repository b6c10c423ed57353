"""The pages of rotation and re-keying: who sees what, what a second click says, and how much is asked of the database."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, Role
from atoms import actions as atoms
from atoms.models import Atom, Node
from operations.models import Operation
from operations.work import sweep
from tests.conftest import Stage
from tests.kmsruntime.container import save
from tests.vaults.keys import rotations as look
from vaults.keys.rekey import request_rekey
from vaults.models import ContainerReport, KmsAccount

pytestmark = pytest.mark.django_db(transaction=True)


def url(stage: Stage, name: str, *ids: object) -> str:
    return reverse(f"vaults:{name}", args=[stage.account.code, *ids])


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().replace("&#x27;", "'").split())


def test_one_environment_is_rotated_from_its_page_by_who_manages_atoms(stage: Stage) -> None:
    save(stage, password="one")
    page = url(stage, "rotate_environment", stage.production.pk)
    alice = stage.cast.client("alice")
    assert page in text(alice.get(reverse("atoms:environment_detail", args=[stage.account.code, stage.production.pk])))
    assert "1 wrapped data key</b> is rewrapped" in text(alice.get(page))
    assert alice.post(page).status_code == 302
    operation = look.finished(Operation.objects.get(kind="vaults.rotate"))
    assert (operation.state, operation.subject_id) == (Operation.State.DONE, stage.production.pk)


def test_a_second_click_is_told_that_the_first_is_not_finished(stage: Stage) -> None:
    alice = stage.cast.client("alice")
    for page in (url(stage, "rotate_all"), url(stage, "rotate_atom", stage.atom.pk)):
        answer = alice.post(page)
    assert answer.status_code == 409
    assert "A rotation of these keys is not finished yet" in text(answer)
    assert Operation.objects.filter(kind="vaults.rotate").count() == 1


def test_nothing_is_offered_while_kms_is_not_active(stage: Stage) -> None:
    Node.objects.create(atom=stage.atom, state="enrolled")
    kms = KmsAccount.objects.get(account=stage.account)
    kms.state = KmsAccount.State.DISABLED
    kms.ends_at = timezone.now() + timedelta(days=30)
    kms.save()
    alice = stage.cast.client("alice")
    for name in ("rotate_all", "rekey_all"):
        assert "<form" not in text(alice.get(url(stage, name))).partition("<main")[2].partition("</main>")[0]
        assert alice.post(url(stage, name)).status_code == 409
    assert not Operation.objects.filter(kind__in=("vaults.rotate", "vaults.rekey")).exists()


def test_the_schedule_is_kept_and_audited_and_another_one_than_offered_is_not(stage: Stage) -> None:
    alice = stage.cast.client("alice")
    page = url(stage, "rotation_schedule")
    assert alice.post(page, {"rotate_every": "90"}).status_code == 302
    assert alice.post(page, {"rotate_every": "1"}).status_code == 302
    kms = KmsAccount.objects.get(account=stage.account)
    assert (kms.rotate_every, kms.has_valid_signature()) == (90, True)
    assert kms.rotated_at is not None
    next_day = kms.rotated_at + timedelta(days=90)
    assert f"All keys are rotated next on {next_day.day} {next_day:%B %Y}" in text(alice.get(url(stage, "kms_account")))
    told = AuditEntry.objects.filter(action="EDIT", subject_id=str(stage.account.pk))
    assert [entry.message for entry in told] == ["Scheduled rotation of in-transit keys: every 90 days"]


def test_the_panel_says_that_a_new_key_was_asked_for_until_it_is_reported(stage: Stage) -> None:
    node = Node.objects.create(atom=stage.atom, state="enrolled", host_name="host1", last_seen_at=timezone.now())
    report = ContainerReport.objects.create(node=node, reported_at=timezone.now())
    alice, panel = stage.cast.client("alice"), url(stage, "kms_panel", stage.atom.pk)
    assert alice.post(url(stage, "rekey_atom", stage.atom.pk)).status_code == 302
    first = alice.get(panel, headers={"hx-request": "true"})
    assert "A new data key was asked for" in text(first)
    report.rekey_revision, report.reported_at = 1, timezone.now()
    report.save()
    after = alice.get(panel, headers={"hx-request": "true", "if-none-match": first.headers["ETag"]})
    assert after.status_code == 200
    assert "A new data key was asked for" not in text(after)


def test_a_reader_sees_ages_and_no_buttons(stage: Stage) -> None:
    page = text(stage.cast.client("bob").get(url(stage, "kms_account")))
    assert "Orders Atom" in page
    for name in ("rotate_all", "rekey_all", "rotation_schedule"):
        assert url(stage, name) not in page


def test_a_member_who_does_not_see_an_environment_does_not_see_its_key_or_its_containers(stage: Stage) -> None:
    Node.objects.create(atom=stage.atom, state="enrolled", host_name="hidden.example")
    Atom.objects.update(rekey_revision=1)
    bob = stage.cast.client("bob")
    assert "hidden.example" in text(bob.get(url(stage, "kms_account")))
    atoms.set_environment_roles(stage.production, [Role.objects.get(name="Support")], actor=stage.alice)
    page = text(bob.get(url(stage, "kms_account")))
    assert "Test" in page
    for hidden in ("hidden.example", "Production", "Orders Atom", "Second Atom"):
        assert hidden not in page
    look.finished(look.rotate(stage, stage.production, stage.test))
    request_rekey(stage.account, [stage.atom, stage.second], actor=stage.alice)
    listing = reverse("operations:operation_list", args=[stage.account.code])
    assert "environments and Atoms" not in text(bob.get(listing))
    assert "environments and Atoms" in text(stage.cast.client("alice").get(listing))


def test_the_account_page_asks_the_same_of_the_database_for_many(stage: Stage) -> None:
    def grow(number: int) -> None:
        environment = atoms.create_environment(
            stage.account, name=f"E{number}", classification="TEST", actor=stage.alice
        )
        atom = atoms.create_atom(
            stage.account, name=f"A{number}", type="ATOM", environment=environment, actor=stage.alice
        )
        node = Node.objects.create(atom=atom, state="enrolled", host_name=f"n{number}", last_seen_at=timezone.now())
        ContainerReport.objects.create(node=node, reported_at=timezone.now(), sealed_at=timezone.now())
        Atom.objects.update(rekey_revision=1)

    alice, counts = stage.cast.client("alice"), []
    for numbers in (range(2), range(2, 15)):
        for number in numbers:
            grow(number)
        sweep()
        alice.get(url(stage, "kms_account"))
        with CaptureQueriesContext(connection) as queries:
            assert alice.get(url(stage, "kms_account")).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]
