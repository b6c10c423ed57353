"""Editing a connection: what environments hold follows it, and their containers are told under a new manifest."""

import pytest
from django.db.models import ProtectedError

from accounts.models import AuditEntry
from extensions.connections import Consent, FieldSpec, delete_connection, save_connection
from extensions.models import Connection, ExtensionValue, Field
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultUnavailable
from tests.conftest import HostedVault, Stage
from tests.extensions.test_save_extensions import save
from tests.invariants.test_kill_web import opened_manifest
from vaults.keys.disable import disable_kms

ANYWHERE, NOWHERE = Consent(), Consent(environments=frozenset())
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def specs(stage: Stage) -> dict[str, FieldSpec]:
    return {
        field.key: FieldSpec(field.pk, field.key, field.label, field.encrypted, field.extensible, field.component_value)
        for field in stage.connection.fields.all()
    }


def edit(
    stage: Stage, fields: dict[str, FieldSpec], name: str = "Orders database", consent: Consent = ANYWHERE
) -> None:
    """Save the connection with exactly these fields."""
    connection = Connection.objects.get(pk=stage.connection.pk)
    deleted = {field.pk for key, field in stored(stage).items() if key not in fields}
    specs = list(fields.values())
    words = {"name": name, "deleted": deleted, "consent": consent, "actor": stage.alice}
    save_connection(stage.account, connection, fields=specs, **words)


def stored(stage: Stage) -> dict[str, Field]:
    return {field.key: field for field in stage.connection.fields.all()}


def changed(spec: FieldSpec, **changes: object) -> FieldSpec:
    return FieldSpec(**{**{name: getattr(spec, name) for name in FieldSpec.__slots__}, **changes})  # type: ignore[arg-type]


def test_a_new_component_value_reaches_published_environments(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    fields = specs(stage)
    fields["host"] = changed(fields["host"], component_value="db2.example.com")
    edit(stage, fields)
    row = ExtensionValue.objects.get(environment=stage.production, field__key="host")
    assert (row.plain, row.revision) == ("db2.example.com", 2)
    assert opened_manifest(stage, hosted_vault).revision == 2
    told = AuditEntry.objects.get(modifier="TARGET")
    assert "Programs in Production get another value of Orders database / Host" in told.message, (
        "Administrators read it"
    )
    stage.test.refresh_from_db()
    assert stage.test.extensions_revision == 0, "an environment nobody saved is not published by this"


def test_a_removed_field_takes_its_values_with_it(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary", apiKey="other")
    fields = specs(stage)
    del fields["password"]
    edit(stage, fields)
    assert not Field.objects.filter(key="password").exists()
    listed = {entry.path[-1] for entry in opened_manifest(stage, hosted_vault).entries}
    assert listed == {"apiKey", "host", "user"}


def test_a_field_named_twice_is_refused(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    fields = list(specs(stage).values())
    password = stage.field("password").pk
    for given, deleted in ((fields, {password}), ([*fields, fields[2]], set())):
        with pytest.raises(Refused) as refused:
            save_connection(
                stage.account, stage.connection, name="Other", fields=given, deleted=deleted, actor=stage.alice
            )
        assert refused.value.code == "field_twice"
    assert Connection.objects.get().name == "Orders database"
    assert ExtensionValue.objects.filter(field=password, form="sealed").exists()


def test_a_value_cannot_go_with_its_field_by_cascade(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    for row in (stage.field("password"), stage.connection):
        with pytest.raises(ProtectedError):
            row.delete()
    assert ExtensionValue.objects.filter(field=stage.field("password"), form="sealed").exists()


def test_a_new_name_is_listed_for_every_field(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    edit(stage, specs(stage), name="Orders store")
    assert {entry.name for entry in opened_manifest(stage, hosted_vault).entries} == {"Orders store"}


def test_a_field_that_is_extensible_no_more_is_not_delivered(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    fields = specs(stage)
    fields["password"] = changed(fields["password"], extensible=False)
    edit(stage, fields)
    assert "password" not in {entry.path[-1] for entry in opened_manifest(stage, hosted_vault).entries}


def test_an_edit_that_changes_no_delivery_calls_no_vault(
    stage: Stage, hosted_vault: HostedVault, settings: object
) -> None:
    save(stage, 0, password="canary")
    fields = specs(stage)
    fields["host"] = changed(fields["host"], label="Server")
    settings.CREDENTIALS = "/nonexistent"  # type: ignore[attr-defined]
    edit(stage, fields)
    stage.production.refresh_from_db()
    assert stage.production.extensions_revision == 1


def test_id_and_kind_of_a_field_stay_as_they_are(stage: Stage, hosted_vault: HostedVault) -> None:
    fields = specs(stage)
    fields["password"] = changed(fields["password"], key="other", encrypted=False, component_value="plain text")
    edit(stage, fields)
    field = Field.objects.get(pk=stage.field("password").pk)
    assert (field.key, field.encrypted, field.component_value) == ("password", True, "")


def test_a_deleted_connection_is_gone_from_every_environment(stage: Stage, hosted_vault: HostedVault) -> None:
    save(stage, 0, password="canary")
    delete_connection(stage.connection, actor=stage.alice)
    assert not ExtensionValue.objects.exists()
    assert opened_manifest(stage, hosted_vault).entries == ()


def test_nothing_is_written_while_the_vault_is_away(stage: Stage, hosted_vault: HostedVault, settings: object) -> None:
    from vaults.hosted.sessions import drop_tokens

    save(stage, 0, password="canary")
    fields = specs(stage)
    fields["host"] = changed(fields["host"], component_value="db2.example.com")
    settings.VAULT_ADDR = "http://127.0.0.1:1"  # type: ignore[attr-defined]
    drop_tokens()
    with pytest.raises(VaultUnavailable):
        edit(stage, fields)
    assert Field.objects.get(key="host").component_value == "db.example.com"
    stage.production.refresh_from_db()
    assert stage.production.extensions_revision == 1


def test_nobody_sends_programs_elsewhere_in_an_environment_he_does_not_see(
    stage: Stage, hosted_vault: HostedVault
) -> None:
    """Whoever builds connections could once point the host of a hidden environment at his own machine."""
    save(stage, 0, password="canary")
    fields = specs(stage)
    fields["host"] = changed(fields["host"], component_value="evil.example.com")
    with pytest.raises(Refused) as refused:
        edit(stage, fields, consent=Consent(environments=frozenset([stage.test.pk])))
    assert refused.value.code == "hidden_environments"
    assert held_host(stage) == "db.example.com"
    edit(stage, {key: changed(spec, label="Another") for key, spec in specs(stage).items()}, consent=NOWHERE)
    edit(stage, fields, consent=Consent(environments=frozenset([stage.production.pk])))
    assert held_host(stage) == "evil.example.com"


def held_host(stage: Stage) -> str:
    return ExtensionValue.objects.get(environment=stage.production, field=stage.field("host")).plain


def test_a_secret_nobody_entered_needs_no_vault(stage: Stage, hosted_vault: HostedVault) -> None:
    """While the vault is away, or KMS disabled, connections can be made, renamed and deleted that hold nothing sealed."""
    save(stage, 0, password="canary")
    disable_kms(stage.account, days=7, actor=stage.alice)
    secret = FieldSpec(None, "token", "Token", True, True, "")
    made = save_connection(stage.account, None, name="New", fields=[secret], actor=stage.alice)
    kept = FieldSpec(made.fields.get().pk, "token", "Token", True, True, "")
    made = save_connection(stage.account, made, name="Newer", fields=[kept], actor=stage.alice)
    delete_connection(made, actor=stage.alice)
    stage.production.refresh_from_db()
    assert stage.production.extensions_revision == 1


def test_what_was_encrypted_once_is_never_kept_in_the_clear(stage: Stage, hosted_vault: HostedVault) -> None:
    """Nor after the field has left and another one of its id came; what was never entered may change its kind."""
    save(stage, 0, password="canary")
    fields = specs(stage)
    del fields["password"], fields["apiKey"]
    edit(stage, fields)
    assert opened_manifest(stage, hosted_vault).sealed == {("connection", str(stage.connection.pk), "password")}
    plain = FieldSpec(None, "password", "Password", False, True, "")
    with pytest.raises(
        Refused, match="was an encrypted field in Production once, so password stays the id of one"
    ) as refused:
        edit(stage, fields | {"password": plain})
    assert refused.value.code == "sealed_once"
    assert not Field.objects.filter(key="password").exists()
    edit(stage, fields | {"apiKey": changed(plain, key="apiKey", label="API key")})
    edit(stage, specs(stage) | {"password": changed(plain, encrypted=True)})
    assert Field.objects.get(key="password").encrypted
