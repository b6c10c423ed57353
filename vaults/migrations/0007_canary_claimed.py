import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("vaults", "0006_reader_watch")]

    operations = [
        migrations.AddField("canary", "claimed_at", models.DateTimeField(null=True)),
        migrations.AlterField(
            "canary",
            "data_key",
            models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="vaults.datakey"
            ),
        ),
        migrations.AlterField("canary", "digest", models.BinaryField(default=bytes, max_length=32)),
        migrations.AlterField("canary", "revision", models.PositiveBigIntegerField(default=0)),
        migrations.AlterField("canary", "sealed", models.BinaryField(null=True)),
    ]
