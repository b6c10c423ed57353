import django.db.models.deletion
from django.db import migrations, models

from accounts.rows import signature


SIGNED = ("account_id", "mount", "role", "accessor", "closed_at")


def sign_alarms_anew(apps, schema_editor):
    """Their signature names the model; one that was no good before is none after."""
    for alarm in apps.get_model("vaults", "LoginAlarm").objects.all():
        facts = [getattr(alarm, name) for name in SIGNED]
        if bytes(alarm.mac) == signature("vaults.ReaderAlarm", alarm.pk, *facts):
            alarm.mac = signature("vaults.LoginAlarm", alarm.pk, *facts)
            alarm.save(update_fields=["mac"])


def forget_test_values(apps, schema_editor):
    """Sealed under another kind; the next self-check makes new ones."""
    apps.get_model("vaults", "SelfCheckValue").objects.all().delete()


def place_operations(apps, schema_editor):
    """Operations of before name their environment by what they are about; of what is gone, one that nobody sees."""
    operations = apps.get_model("operations", "Operation").objects.exclude(subject_id=models.F("account_id"))
    environment, node = apps.get_model("atoms", "Environment"), apps.get_model("atoms", "Node")
    attached = dict(apps.get_model("atoms", "Attachment").objects.values_list("atom_id", "environment_id"))
    places = {pk: pk for pk in environment.objects.values_list("pk", flat=True)}
    places |= {pk: attached.get(pk) for pk in apps.get_model("atoms", "Atom").objects.values_list("pk", flat=True)}
    places |= {pk: attached.get(atom) for pk, atom in node.objects.values_list("pk", "atom_id")}
    enrolments = apps.get_model("vaults", "Enrolment").objects.values_list("pk", "environment_id")
    places |= dict(enrolments)
    for operation in operations.filter(environment_id=None).only("pk", "subject_id").iterator():
        place = places.get(operation.subject_id, operation.subject_id)
        type(operation).objects.filter(pk=operation.pk).update(environment_id=place)


class Migration(migrations.Migration):
    """The field's words, and what was signed, sealed or placed by the old ones."""

    dependencies = [
        ("accounts", "0003_support_staff"),
        ("atoms", "0005_revoked_credentials"),
        ("operations", "0003_standard_terms"),
        ("vaults", "0007_canary_claimed"),
    ]

    operations = [
        migrations.RenameModel(old_name="ReaderWatch", new_name="LoginWatch"),
        migrations.RenameField(model_name="loginwatch", old_name="looked_at", new_name="scanned_at"),
        migrations.RenameModel(old_name="ReaderAlarm", new_name="LoginAlarm"),
        migrations.RenameModel(old_name="Loss", new_name="LostKeys"),
        migrations.RenameModel(old_name="Canary", new_name="SelfCheckValue"),
        migrations.RenameModel(old_name="Proof", new_name="SelfCheckResult"),
        migrations.AlterField(
            model_name="loginalarm",
            name="account",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="login_alarms",
                to="accounts.account",
            ),
        ),
        migrations.AlterField(
            model_name="selfcheckvalue",
            name="environment",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE, related_name="selfcheck_value", to="atoms.environment"
            ),
        ),
        migrations.AlterField(
            model_name="selfcheckresult",
            name="node",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE, related_name="selfcheck", to="atoms.node"
            ),
        ),
        migrations.RunPython(sign_alarms_anew, migrations.RunPython.noop),
        migrations.RunPython(forget_test_values, migrations.RunPython.noop),
        migrations.RunPython(place_operations, migrations.RunPython.noop),
    ]
