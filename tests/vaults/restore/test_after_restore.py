"""What `after_restore` does with a database and a vault of different days; the whole drill is test_restore.py."""

import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import audit, memory
from atoms.models import Environment, Node
from extensions.actions import republish
from extensions.models import EnvironmentManifest, listed_in
from kmscore.byov.customer import CustomerVault
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from tests.by_hand import add_to_document
from tests.conftest import HostedVault, Stage
from tests.kmsruntime.container import bring_your_own_vault, save
from tests.vaults.keys.dying import dying_worker
from tests.vaults.keys.rotations import recipient_of
from vaults.hosted import calls
from vaults.keys import disable
from vaults.models import DataKey, KmsAccount, KmsSettings, Recipient, SecretId
from vaults.panel.settings import SettingsInvalid, file_of, settings_of, with_settings

pytestmark = pytest.mark.django_db(transaction=True)
CUSTOMER = CustomerVault(uri="https://vault.customer.example:8200", token="${AUTH_TOKEN}")  # noqa: S106 (a placeholder)


@pytest.fixture
def after_restore(hosted_vault: HostedVault) -> Any:
    def run(name: str = "first", **options: Any) -> str:
        said = StringIO()
        call_command("after_restore", credentials=hosted_vault.credentials, restore=name, stdout=said, **options)
        return said.getvalue()

    return run


def take_out(hosted_vault: HostedVault, key: DataKey) -> str:
    """As an older vault: without this entry of its document. Returns what stood there."""
    path = f"{key.recipient_id}/{key.document}"
    wrapped: str = hosted_vault.root.read_document(key.recipient.mounts.documents, path)[str(key.pk)]
    add_to_document(hosted_vault.root, key.recipient.mounts, path, {str(key.pk): None})
    return wrapped


def key_of(stage: Stage, field: str) -> DataKey:
    found: DataKey = stage.production.extension_values.get(field__key=field).data_key
    return found


def revision(stage: Stage) -> int:
    stage.production.refresh_from_db()
    return stage.production.extensions_revision


# -- data keys and revisions ---------------------------------------------------------------------------------------------


def test_a_missing_data_key_is_named_and_one_that_is_there_again_is_not(
    stage: Stage, hosted_vault: HostedVault, after_restore: Any
) -> None:
    save(stage, password="one")
    save(stage, apiKey="two")
    key = key_of(stage, "password")
    wrapped = take_out(hosted_vault, key)
    said = after_restore(only="vault")
    assert "data keys missing in the vault: 1;" in said
    assert "  Production / Orders database / Password\n" in said
    assert "API key" not in said
    assert wrapped not in said
    key.refresh_from_db()
    assert (key.lost_because, key_of(stage, "apiKey").lost_at) == (DataKey.LostBecause.RESTORED, None)

    add_to_document(
        hosted_vault.root, key.recipient.mounts, f"{key.recipient_id}/{key.document}", {str(key.pk): wrapped}
    )
    said = after_restore("second", only="vault")
    assert "there again: 1." in said
    assert "to be entered again" not in said
    key.refresh_from_db()
    assert key.lost_at is None


def test_revisions_rise_once_above_all_that_was_reported(stage: Stage, after_restore: Any) -> None:
    save(stage, password="one")
    Node.objects.create(
        atom=stage.atom, state="enrolled", delivered_revision=77, delivered_environment=stage.production
    )
    after_restore()
    assert revision(stage) == 1078
    assert KmsSettings.objects.get(atom=stage.atom).revision == 1002
    assert not KmsSettings.objects.filter(atom=stage.second).exists(), "it has no container"
    stage.atom.refresh_from_db()
    assert stage.atom.rekey_revision == 1000
    assert "is revision" not in after_restore()
    assert revision(stage) == 1078
    after_restore("second", above=5)
    assert revision(stage) == 1084
    told = stage.account.audit_entries.filter(action="RESTORE_EXTENSIONS").values_list(
        "actor_name", "properties__restore"
    )
    assert sorted(told) == [("operator", "first"), ("operator", "second")]


def test_a_list_whose_own_key_is_lost_is_sealed_anew(
    stage: Stage, hosted_vault: HostedVault, after_restore: Any
) -> None:
    save(stage, password="one")
    manifest = stage.production.manifest
    save(stage, {"region": "eu"})
    stage.production.refresh_from_db()
    manifest.refresh_from_db()
    take_out(hosted_vault, manifest.data_key)
    after_restore(only="vault")
    manifest.refresh_from_db()
    assert manifest.data_key.lost_at is None
    assert key_of(stage, "password").lost_at is None
    assert revision(stage) < 1000


def test_versions_are_taken_from_the_vault(stage: Stage, hosted_vault: HostedVault, after_restore: Any) -> None:
    calls.rotate_key(recipient_of(stage.production))
    calls.refuse_versions_before(recipient_of(stage.production), 2)
    after_restore(only="database")
    recipient = Recipient.objects.get(pk=stage.production.pk)
    assert (recipient.in_transit_version, recipient.oldest_version) == (2, 2)


# -- KMS settings --------------------------------------------------------------------------------------------------------


def test_a_lost_properties_file_is_to_be_uploaded_again_and_the_same_one_heals(
    stage: Stage, hosted_vault: HostedVault, after_restore: Any
) -> None:
    bring_your_own_vault(stage, stage.atom, CUSTOMER)
    stored = file_of(with_settings(stage.atom))
    assert stored is not None
    take_out(hosted_vault, stored.data_key)
    assert "upload the properties file of Orders Atom again" in after_restore(only="vault")
    assert bring_your_own_vault(stage, stage.atom, CUSTOMER) == settings_of(with_settings(stage.atom)).revision
    stored = file_of(with_settings(stage.atom))
    assert stored is not None
    assert stored.data_key.lost_at is None
    assert "upload" not in after_restore("second", only="vault")


def test_a_lost_file_cannot_be_kept(stage: Stage, hosted_vault: HostedVault, after_restore: Any) -> None:
    from vaults.panel.settings import save_kms_settings

    bring_your_own_vault(stage, stage.atom, CUSTOMER)
    stored = file_of(with_settings(stage.atom))
    assert stored is not None
    take_out(hosted_vault, stored.data_key)
    after_restore(only="vault")
    expected = settings_of(with_settings(stage.atom)).revision
    with pytest.raises(SettingsInvalid, match="again"):
        save_kms_settings(
            stage.atom, mode="byov", wrapped=True, file=None, expected_revision=expected, actor=stage.alice
        )


# -- recipients ----------------------------------------------------------------------------------------------------------


def test_keys_and_roles_an_older_vault_lacks_are_made(
    stage: Stage, hosted_vault: HostedVault, after_restore: Any
) -> None:
    role = f"auth/environments/role/{stage.production.pk}"
    hosted_vault.root.call("DELETE", role)
    said = after_restore(only="database")
    assert hosted_vault.root.status_of("GET", role)[0] == 404, "in a newer vault it is missing on purpose"
    assert "without a role in the vault: 1." in said
    assert "without a role" not in after_restore("second", only="vault")
    assert hosted_vault.root.status_of("GET", role)[0] == 200


def test_a_disabled_account_stays_cut_off(stage: Stage, hosted_vault: HostedVault, after_restore: Any) -> None:
    from operations.work import sweep

    save(stage, password="one")
    before = revision(stage)
    disable.disable_kms(stage.account, days=30, actor=stage.alice)
    sweep()
    calls.provision(OF_ENVIRONMENTS, stage.production.pk, stage.account.pk)  # an older vault has its role
    said = after_restore(only="vault")
    assert "disabled: nothing can be sealed" in said
    assert hosted_vault.root.status_of("GET", f"auth/environments/role/{stage.production.pk}")[0] == 404
    assert revision(stage) == before
    disable.enable_kms(KmsAccount.objects.get().account, actor=stage.alice)
    sweep()
    after_restore(only="vault")
    assert revision(stage) == before + 1


def test_shredded_keys_that_are_back_are_shredded_again(stage: Stage, after_restore: Any) -> None:
    from operations.models import Operation

    kms = KmsAccount.objects.get(account=stage.account)
    kms.state = KmsAccount.State.SHREDDED
    kms.save()
    for _ in range(2):
        after_restore(only="vault")
    assert Operation.objects.filter(kind=disable.SHRED, account=stage.account).count() == 1


def test_an_account_shredded_since_the_backup_does_not_stop_the_others(
    stage: Stage, hosted_vault: HostedVault, after_restore: Any
) -> None:
    save(stage, password="one")
    for path in (f"intransit/keys/{stage.production.pk}", f"atomtransit/keys/{stage.atom.pk}"):
        hosted_vault.root.call("POST", f"{path}/config", {"deletion_allowed": True})
        hosted_vault.root.call("DELETE", path)
    hosted_vault.root.call("DELETE", f"datakeys/metadata/{stage.production.pk}/0")
    said = after_restore(only="database")
    assert "deleted: 2." in said
    assert "Production / Orders database / Password" in said


# -- logins --------------------------------------------------------------------------------------------------------------


def stranger(stage: Stage, node: Node, atom: Any = None) -> str:
    """A login as web would make it, that the database does not know."""
    metadata = {"atom": str(node.atom_id), "node": str(node.pk), "enrolment": str(uuid.uuid4())}
    return calls.wrapped_secret_id("atoms", (atom or node.atom).pk, metadata, 60).accessor


def test_logins_renewed_since_the_backup_are_adopted_only_when_asked(
    stage: Stage, after_restore: Any, tmp_path: Any, settings: Any
) -> None:
    from kmsportal.backups import restored

    node = Node.objects.create(atom=stage.atom, state="enrolled", host_name="host1")
    known = stranger(stage, node)
    stranger(stage, node, stage.second)  # for another Atom's role
    stranger(stage, Node(pk=uuid.uuid4(), atom=stage.atom))  # of a node there is none of
    settings.VAR = tmp_path
    restored.note(tmp_path, ["database"], timezone.now() - timedelta(days=1))
    stranger(stage, node)  # after the restore
    after_restore("")
    assert not SecretId.objects.exists()
    assert stage.account.login_alarms.count() == 4
    after_restore("", adopt=True)
    assert list(SecretId.objects.values_list("accessor", flat=True)) == [known], "not after the restore, nor another's"
    assert stage.account.audit_entries.filter(action="ADOPT", actor_name="operator").exists()
    assert SecretId.objects.first().has_valid_signature()  # type: ignore[union-attr]


# -- the command ---------------------------------------------------------------------------------------------------------


def test_without_a_noted_restore_it_wants_a_name(
    stage: Stage, after_restore: Any, tmp_path: Any, settings: Any
) -> None:
    settings.VAR = tmp_path
    with pytest.raises(CommandError, match="--restore NAME"):
        after_restore("")


def test_without_both_files_it_says_which_identity_is_missing(stage: Stage, tmp_path: Any) -> None:
    with pytest.raises(CommandError, match="gives no identity"):
        call_command("after_restore", credentials=tmp_path, restore="x", stdout=StringIO())


def test_a_vault_that_is_away_is_one_line_and_it_goes_on_later(stage: Stage, after_restore: Any, settings: Any) -> None:
    save(stage, password="one")
    right, settings.VAULT_ADDR = settings.VAULT_ADDR, "http://127.0.0.1:1"
    with pytest.raises(CommandError, match="what is done stays done"):
        after_restore()
    settings.VAULT_ADDR = right
    assert "is revision" in after_restore()


@pytest.mark.slow
def test_killed_at_any_step_a_second_run_ends_as_an_undisturbed_one(stage: Stage, hosted_vault: HostedVault) -> None:
    """Every eleventh step: each run is a restore of its own, and takes another value's key out of the vault before."""
    Node.objects.create(atom=stage.atom, state="enrolled", host_name="host1")
    save(stage, apiKey="kept")
    with dying_worker(hosted_vault, "all") as worker:
        number, steps = 1, None
        while steps is None:
            save(stage, password=f"value {number}")
            lost = key_of(stage, "password")
            take_out(hosted_vault, lost)
            command = ("after_restore", str(hosted_vault.credentials), f"restore-{number}")
            steps = worker.sweep(number, *command)
            assert worker.sweep(0, *command) is not None
            lost.refresh_from_db()
            stage.production.refresh_from_db()
            manifest, settings = stage.production.manifest, KmsSettings.objects.get(atom=stage.atom)
            assert lost.lost_because == DataKey.LostBecause.RESTORED
            assert manifest.revision == stage.production.extensions_revision > number // 11 * 1000
            assert settings.has_valid_signature()
            assert settings.revision > number // 11 * 1000
            for key in (manifest.data_key, settings.data_key, key_of(stage, "apiKey")):
                assert key is not None
                assert key.lost_at is None
                document = hosted_vault.root.read_document(
                    key.recipient.mounts.documents, f"{key.recipient_id}/{key.document}"
                )
                assert str(key.pk) in document
            number += 11
    assert number > 30
    assert audit.first_broken(stage.account) is None
    told = stage.account.audit_entries.filter(action="RESTORE_EXTENSIONS").values_list("properties__restore", flat=True)
    assert len(set(told)) == len(range(1, number, 11))


def test_the_same_backup_put_back_twice_is_two_restores(stage: Stage, hosted_vault: HostedVault) -> None:
    """Containers fetch everything anew after each: by the same number they took the second for what they knew already."""
    save(stage, password="one")
    environment = Environment.objects.filter(pk=stage.production.pk)
    manifest = EnvironmentManifest.objects.filter(environment=stage.production)
    backup, numbers = (environment.values().get(), manifest.values().get()), []
    for _ in range(2):
        stage.production.refresh_from_db()
        republish(stage.production, above=10, actor="tests")
        stage.production.refresh_from_db()
        numbers.append(listed_in(stage.production).restored)
        memory.forget()
        environment.update(**backup[0])
        manifest.update(**backup[1])
    assert 1 < numbers[0] < numbers[1]
