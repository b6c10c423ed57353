from django.db import migrations, models


class Migration(migrations.Migration):
    """What was there before bears no signature, and is refused until somebody makes it anew: a migration signs nothing."""

    dependencies = [("extensions", "0002_fields_leave_after_their_values")]

    operations = [
        migrations.AddField(
            model_name=name,
            name="mac",
            field=models.BinaryField(default=b"", editable=False, max_length=32),
            preserve_default=False,
        )
        for name in ("connection", "field", "extensionvalue", "processproperty")
    ]
