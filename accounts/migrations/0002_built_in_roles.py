from django.db import migrations

from accounts.privileges import BUILT_IN_ROLES


def create(apps, schema_editor):
    """What they allow is code; others point at these ids."""
    Role = apps.get_model("accounts", "Role")
    for role_id, (name, _) in BUILT_IN_ROLES.items():
        Role.objects.update_or_create(pk=role_id, defaults={"account": None, "name": name, "privileges": "", "signature": b""})


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_second_edition")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
