from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('atoms', '0003_key_lifecycle'),
    ]

    operations = [
        migrations.AddField(
            model_name='environment',
            name='restored',
            field=models.PositiveIntegerField(default=0),
        ),
    ]
