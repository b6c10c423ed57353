from django.db import migrations

from accounts.privileges import BUILT_IN_ROLES
from accounts.rows import signature


def create(apps, schema_editor):
    Role = apps.get_model("accounts", "Role")
    for role_id, (name, privileges) in BUILT_IN_ROLES.items():
        text = " ".join(privileges)
        mac = signature("accounts.Role", role_id, None, name, text)
        Role.objects.update_or_create(pk=role_id, defaults={"account": None, "name": name, "privileges": text, "mac": mac})


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
