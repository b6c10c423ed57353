"""Saving the Environment Extensions: sealed on save, all or nothing, never readable by the portal."""

import pytest

from accounts import audit
from accounts.models import AuditEntry, User
from extensions.actions import StaleRevision, save_extensions
from extensions.models import EnvironmentManifest, ExtensionValue, listed_in
from extensions.plan import FieldChange, PropertyChange
from extensions.secret import Secret
from kmscore.sealed.envelope import open_sealed
from kmscore.sealed.manifest import decode, digest, manifest_place, value_place
from tests.conftest import PASSWORD, HostedVault, Stage
from tests.extensions.dialog import Dialog
from tests.invariants.test_kill_web import data_key, opened_manifest
from vaults.models import DataKey

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def save(stage: Stage, revision: int, **secrets: str) -> int:
    changes = [FieldChange(stage.field(key), "secret", Secret(value)) for key, value in secrets.items()]
    return save_extensions(stage.production, changes, expected_revision=revision, actor=stage.alice).revision


def test_a_secret_is_sealed_for_its_place(stage: Stage, hosted_vault: HostedVault) -> None:
    assert save(stage, 0, password="hunter-2-canary") == 1
    value = ExtensionValue.objects.get(field=stage.field("password"))
    assert value.data_key is not None
    assert value.sealed is not None
    key = data_key(hosted_vault, value.data_key)
    where = value_place(
        str(stage.account.pk), str(stage.production.pk), stage.field("password").path, 1, str(value.data_key_id)
    )
    assert open_sealed(key, bytes(value.sealed), where) == b"hunter-2-canary"


def test_the_manifest_lists_everything_the_environment_holds(stage: Stage, hosted_vault: HostedVault) -> None:
    changes = [
        FieldChange(stage.field("password"), "secret", Secret("canary")),
        FieldChange(stage.field("user"), "plain", "orders"),
    ]
    properties = [PropertyChange("region", "eu")]
    save_extensions(stage.production, changes, properties, expected_revision=0, actor=stage.alice)
    row = EnvironmentManifest.objects.get(environment=stage.production)
    where = manifest_place(str(stage.account.pk), str(stage.production.pk), 1, str(row.data_key_id))
    listing = decode(open_sealed(data_key(hosted_vault, row.data_key), bytes(row.sealed), where))
    found = {entry.path[-1]: (entry.form, entry.revision, entry.digest) for entry in listing.entries}
    assert found == {
        "password": ("sealed", 1, str(row.data_key_id)),
        "apiKey": ("missing", 1, ""),
        "user": ("plain", 1, digest("orders")),
        "host": ("plain", 1, digest("db.example.com")),
        "region": ("plain", 1, digest("eu")),
    }
    assert listing.revision == 1


def test_what_stays_is_listed_with_the_key_that_sealed_it(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    save(stage, 1, apiKey="other")
    listed = {
        entry.path[-1]: entry.digest for entry in opened_manifest(stage, hosted_vault).entries if entry.form == "sealed"
    }
    rows = ExtensionValue.objects.filter(form="sealed").values_list("field__key", "data_key_id")
    assert listed == {key: str(data_key) for key, data_key in rows}
    assert len(set(listed.values())) == 2


def test_saving_nothing_writes_nothing_and_calls_nobody(
    stage: Stage, hosted_vault: HostedVault, settings: object
) -> None:
    save(stage, 0, password="canary")
    keys, entries = DataKey.objects.count(), AuditEntry.objects.count()
    changes = [FieldChange(stage.field("host"), "component")]
    assert save_extensions(stage.production, changes, expected_revision=1, actor=stage.alice).changed == 0
    stage.production.refresh_from_db()
    assert (stage.production.extensions_revision, DataKey.objects.count(), AuditEntry.objects.count()) == (
        1,
        keys,
        entries,
    )


def test_a_stale_revision_writes_nothing_and_names_who_changed_what(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="first")
    with pytest.raises(StaleRevision) as stale:
        save(stage, 0, apiKey="second")
    assert [save.by for save in stale.value.saves] == ["alice@example.com"]
    assert ["Orders database", "Password", "new secret"] in stale.value.saves[0].fields
    assert not ExtensionValue.objects.filter(field=stage.field("apiKey")).exists()


def test_each_save_has_a_data_key_of_its_own(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="one")
    first = ExtensionValue.objects.get(field=stage.field("password")).data_key_id
    save(stage, 1, password="two", apiKey="three")
    second = ExtensionValue.objects.get(field=stage.field("password")).data_key_id
    assert first != second
    assert second == ExtensionValue.objects.get(field=stage.field("apiKey")).data_key_id


def test_the_audit_log_has_the_save_and_not_the_value(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="audit-canary")
    entry = AuditEntry.objects.filter(type="as.extensions").latest("seq")
    assert entry.properties["revision"] == 1
    assert "audit-canary" not in str(entry.properties) + entry.message
    assert audit.first_broken(stage.account) is None


def test_who_set_what_is_told_by_the_signed_list(stage: Stage) -> None:
    """No column says it any more, which a page would show."""
    dora = User.objects.create_user("dora@example.com", PASSWORD)
    save(stage, 0, password="canary")
    change = FieldChange(stage.field("host"), "plain", "db2.example.com")
    save_extensions(stage.production, [change], [PropertyChange("region", "eu")], expected_revision=1, actor=dora)
    stage.production.refresh_from_db()
    by = {path[-1]: name for path, name in listed_in(stage.production).by.items()}
    alice, other = str(stage.alice.pk), str(dora.pk)
    assert by == {"password": alice, "user": alice, "host": other, "region": other}
    page = Dialog(stage).page()
    assert (page.count("by dora@example.com"), page.count("by alice@example.com")) == (2, 1)


def test_a_persons_address_that_was_changed_past_the_portal_is_not_kept_in_the_list(stage: Stage) -> None:
    User.objects.filter(pk=stage.alice.pk).update(email="bob@example.com.evil")
    actor = User.objects.get(pk=stage.alice.pk)
    save_extensions(stage.production, [], [PropertyChange("region", "eu")], expected_revision=0, actor=actor)
    assert "evil" not in EnvironmentManifest.objects.get(environment=stage.production).listed


def test_the_first_save_names_what_was_changed_and_not_every_field(stage: Stage, hosted_vault: HostedVault) -> None:
    changes = [
        FieldChange(stage.field("password"), "secret", Secret("canary")),
        FieldChange(stage.field("user"), "plain", "orders"),
    ]
    assert save_extensions(stage.production, changes, expected_revision=0, actor=stage.alice).changed == 2
    told = AuditEntry.objects.filter(type="as.extensions")[0].properties["fields"]
    assert sorted(told) == [["Orders database", "Password", "new secret"], ["Orders database", "User", "new value"]]
