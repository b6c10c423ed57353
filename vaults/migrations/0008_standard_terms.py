import django.db.models.deletion
from django.db import migrations, models


def forget(apps, schema_editor):
    for name in ("ReaderAlarm", "Canary"):
        apps.get_model("vaults", name).objects.all().delete()


class Migration(migrations.Migration):
    """The field's words.

    Alarms lose their signature with their old name, and test values are sealed under their new kind: both go, and the next
    scan and self-check make them again.
    """

    dependencies = [
        ("accounts", "0003_support_staff"),
        ("atoms", "0005_revoked_credentials"),
        ("vaults", "0007_canary_claimed"),
    ]

    operations = [
        migrations.RunPython(forget, migrations.RunPython.noop),
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
    ]
