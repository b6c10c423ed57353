"""Disabled, everything is cut off and nothing is destroyed; enabled again, everything works and nothing is entered again."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from accounts.rows import RowTampered
from atoms import actions as atoms
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultRefused
from kmsruntime.errors import RuntimeProblem
from operations.models import Operation
from operations.work import sweep
from tests.conftest import HostedVault, Stage
from tests.kmsruntime.conftest import *  # noqa: F403 (its fixtures)
from tests.kmsruntime.container import Container, save
from tests.vaults.keys.dying import dying_worker, killed_at_every_step, leases_end
from tests.vaults.keys.rotations import recipient_of
from vaults.hosted import calls
from vaults.hosted.sessions import as_identity
from vaults.keys.disable import disable_kms, enable_kms
from vaults.models import KmsAccount, SecretId

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def roles(stage: Stage) -> set[str]:
    """Those of the account that the vault has."""
    ours = {str(row.pk) for row in stage.account.recipients.all()}
    return {role for mount in ("environments", "atoms") for role in calls.roles(mount)} & ours


def settle() -> None:
    for _ in range(4):
        leases_end()
        sweep()


def test_disabling_deletes_the_roles_and_nothing_else(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, password="kept")
    before = hosted_vault.root.read_document("datakeys", f"{stage.production.pk}/0")
    assert len(roles(stage)) == 4
    disable_kms(stage.account, days=30, actor=stage.alice)
    settle()
    assert roles(stage) == set()
    assert hosted_vault.root.read_document("datakeys", f"{stage.production.pk}/0") == before
    assert calls.key_versions(recipient_of(stage.production)).latest == 1
    assert not SecretId.objects.filter(destroyed_at=None).exists()


def test_what_is_to_be_deleted_does_not_count_a_deleted_environment_as_one(stage: Stage) -> None:
    atoms.delete_environment(stage.test, expected_revision=0, actor=stage.alice)
    disable_kms(stage.account, days=30, actor=stage.alice)
    asked = Operation.objects.get(kind="vaults.disable")
    assert asked.title == "Delete the roles of 3 environments and Atoms, and of 1 deleted"
    settle()
    assert roles(stage) == set(), "the role of a deleted one ends here, too"


def test_while_disabled_new_values_are_refused_with_the_reason(stage: Stage) -> None:
    save(stage, password="kept")
    disable_kms(stage.account, days=30, actor=stage.alice)
    for values in ({"password": "new"}, {"host": "plain.example.com"}):
        with pytest.raises(Refused, match="disabled on"):
            save(stage, **values)
    stage.production.refresh_from_db()
    assert stage.production.extensions_revision == 1


def test_everything_comes_back_byte_for_byte_and_by_itself(enrolled: Container, hosted_vault: HostedVault) -> None:
    stage = enrolled.stage
    save(stage, password="pässwörd \U0001f511", apiKey="0123456789")
    enrolled.sync()
    before = enrolled.values()
    disable_kms(stage.account, days=30, actor=stage.alice)
    settle()
    with pytest.raises(RuntimeProblem, match="not active|disabled"):
        enrolled.sync()
    assert enrolled.values() == before, "what it holds is its own"
    enable_kms(stage.account, actor=stage.alice)
    settle()
    save(stage, user="someone new")
    (enrolled.directory / "unrelated").write_text("")
    assert enrolled.sync().result == "updated"
    assert enrolled.values() == before | {"Orders database/user": "someone new"}
    assert SecretId.objects.filter(destroyed_at=None, confirmed_at__isnull=False).count() == 2, "new credentials"


def test_a_new_container_opens_what_was_saved_before(container: Container) -> None:
    stage = container.stage
    save(stage, password="from before")
    disable_kms(stage.account, days=7, actor=stage.alice)
    settle()
    enable_kms(stage.account, actor=stage.alice)
    settle()
    container.enrol().sync()
    assert container.values()["Orders database/password"] == "from before"


def test_an_environment_made_while_disabled_gets_its_keys_later(stage: Stage) -> None:
    from atoms import actions as atoms

    disable_kms(stage.account, days=7, actor=stage.alice)
    made = atoms.create_environment(stage.account, name="Meanwhile", classification="TEST", actor=stage.alice)
    settle()
    enable_kms(stage.account, actor=stage.alice)
    settle()
    made.refresh_from_db()
    assert made.provisioned_at is not None
    assert str(made.pk) in calls.roles("environments")


def test_undone_before_a_worker_came_nothing_is_deleted(stage: Stage) -> None:
    disable_kms(stage.account, days=7, actor=stage.alice)
    enable_kms(stage.account, actor=stage.alice)
    settle()
    assert len(roles(stage)) == 4
    assert not Operation.objects.unfinished().exists()


def test_only_an_active_one_is_disabled_and_only_a_disabled_one_enabled(stage: Stage) -> None:
    with pytest.raises(Refused):
        enable_kms(stage.account, actor=stage.alice)
    disable_kms(stage.account, days=7, actor=stage.alice)
    with pytest.raises(Refused):
        disable_kms(stage.account, days=7, actor=stage.alice)


def test_a_state_written_into_the_database_grants_nothing(stage: Stage) -> None:
    disable_kms(stage.account, days=7, actor=stage.alice)
    KmsAccount.objects.update(state=KmsAccount.State.ACTIVE)
    stage.account.refresh_from_db()
    assert not KmsAccount.is_active(type(stage.account).objects.get(pk=stage.account.pk))
    KmsAccount.objects.update(state=KmsAccount.State.DISABLED, ends_at=timezone.now() - timedelta(days=1))
    with pytest.raises(RowTampered):
        enable_kms(stage.account, actor=stage.alice)


def test_the_watch_cannot_read_what_it_cuts_off(stage: Stage) -> None:
    save(stage, password="unread")
    for call in (
        ("GET", f"/v1/datakeys/data/{stage.production.pk}/0"),
        ("POST", f"/v1/intransit/rewrap/{stage.production.pk}"),
        ("POST", f"/v1/intransit/decrypt/{stage.production.pk}"),
    ):
        with pytest.raises(VaultRefused) as refused:
            as_identity("watch", lambda client, call=call: client.adapter.request(*call))
        assert refused.value.status == 403


@pytest.mark.slow
def test_a_worker_killed_at_every_step_ends_in_the_same_state(stage: Stage, hosted_vault: HostedVault) -> None:
    with dying_worker(hosted_vault, "watch") as watch:

        def disable() -> None:
            disable_kms(stage.account, days=7, actor=stage.alice)

        def check_disabled(_: object) -> None:
            assert roles(stage) == set()
            assert not Operation.objects.unfinished().exists()
            enable_kms(stage.account, actor=stage.alice)
            settle()
            assert len(roles(stage)) == 4

        assert killed_at_every_step(watch, disable, check_disabled, "watch") > 10
    with dying_worker(hosted_vault) as worker:

        def enable() -> None:
            disable_kms(stage.account, days=7, actor=stage.alice)
            settle()
            enable_kms(stage.account, actor=stage.alice)

        def check_enabled(_: object) -> None:
            assert len(roles(stage)) == 4
            assert not Operation.objects.unfinished().exists()
            for subject in (stage.production, stage.atom):
                subject.refresh_from_db()
                assert subject.provisioned_at is not None

        assert killed_at_every_step(worker, enable, check_enabled) > 10


def test_the_pages_lead_there_and_back(stage: Stage) -> None:
    alice = stage.cast.client("alice")
    account = reverse("vaults:kms_account", args=[stage.account.code])
    save(stage, password="counted")
    page = alice.get(f"{account}disable/").content.decode()
    assert "<b>1 sealed value</b>" in page
    refused = alice.post(f"{account}disable/", {"days": "3", "code": "wrong"})
    assert refused.status_code == 422
    assert alice.post(f"{account}disable/", {"days": "7", "code": stage.account.code}).status_code == 302
    shown = alice.get(account).content.decode()
    assert "Disabled" in shown
    assert "Undo" in shown
    assert alice.post(f"{account}enable/").status_code == 302
    assert "Active" in alice.get(account).content.decode()


def test_a_disabled_account_whose_row_is_gone_is_not_activated(stage: Stage) -> None:
    """An attack that succeeded: without its row it passed for one that never had a Key Management Service."""
    disable_kms(stage.account, days=30, actor=stage.alice)
    KmsAccount.objects.filter(account=stage.account)._raw_delete("default")
    with pytest.raises(CommandError, match="taken away past the portal"):
        call_command("activate_kms", stage.account.code)
    assert not KmsAccount.objects.filter(account=stage.account).exists()
