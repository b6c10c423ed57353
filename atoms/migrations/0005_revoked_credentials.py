import uuid

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("atoms", "0004_environment_restored")]

    operations = [
        migrations.CreateModel(
            name="RevokedCredential",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("token_hash", models.BinaryField(db_index=True, max_length=32)),
                ("revoked_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("refused_at", models.DateTimeField(null=True)),
                ("last_refused_at", models.DateTimeField(null=True)),
                (
                    "node",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="revoked_credentials",
                        to="atoms.node",
                    ),
                ),
            ],
            options={"abstract": False},
        ),
    ]
