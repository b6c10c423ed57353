from django.db import migrations, models


class Migration(migrations.Migration):
    """What was there before bears no signature: it has to be entered anew, for a migration signs nothing."""

    dependencies = [("extensions", "0003_signed_connections")]

    operations = [
        migrations.AddField(
            model_name=name,
            name="mac",
            field=models.BinaryField(default=b"", editable=False, max_length=32),
            preserve_default=False,
        )
        for name in ("extensionvalue", "processproperty")
    ]
