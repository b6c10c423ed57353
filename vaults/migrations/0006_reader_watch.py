from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("vaults", "0005_losses")]

    operations = [
        migrations.CreateModel(
            name="ReaderWatch",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("looked_at", models.DateTimeField(null=True)),
                ("roles", models.PositiveIntegerField(default=0)),
                ("secret_ids", models.PositiveIntegerField(default=0)),
                ("counts", models.JSONField(default=dict)),
                ("failed_at", models.DateTimeField(null=True)),
                ("error_code", models.CharField(blank=True, max_length=64)),
                ("error_sentence", models.CharField(blank=True, max_length=300)),
                ("lease", models.UUIDField(null=True)),
                ("lease_until", models.DateTimeField(null=True)),
            ],
        ),
        migrations.AddField("readeralarm", "mailed_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "readeralarm",
            "mac",
            models.BinaryField(default=bytes, editable=False, max_length=32),
            preserve_default=False,
        ),
    ]
