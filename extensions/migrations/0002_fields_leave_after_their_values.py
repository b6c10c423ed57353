import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('extensions', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='extensionvalue',
            name='field',
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name='extension_values', to='extensions.field'
            ),
        ),
    ]
