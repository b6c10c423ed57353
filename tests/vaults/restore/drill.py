"""One step of the restore drill in a process of its own: `python -m tests.vaults.restore.drill STEP [JSON]`; answers JSON.

The drill's installation has its own database file, which is replaced, so nothing of it happens in the tests' process.
"""

import json
import os
import sys
from datetime import timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts import actions as accounts  # noqa: E402
from accounts.models import Account, Role, User  # noqa: E402
from accounts.privileges import ADMINISTRATOR  # noqa: E402
from atoms.actions import create_atom, create_installer_token  # noqa: E402
from atoms.models import Atom, Environment, Node  # noqa: E402
from atoms.revocation import revoke_node  # noqa: E402
from extensions.models import Connection, ExtensionValue  # noqa: E402
from operations.work import sweep  # noqa: E402
from tests.conftest import Cast, Stage, set_stage  # noqa: E402
from tests.kmsruntime.container import save  # noqa: E402
from tests.vaults.keys.rotations import recipient_of  # noqa: E402
from vaults.hosted import calls  # noqa: E402
from vaults.keys import rotation  # noqa: E402
from vaults.models import DataKey, SecretId  # noqa: E402

NAMES = ("alice", "bob", "charlie")


def setup() -> dict[str, Any]:
    call_command("migrate", verbosity=0)
    people = [User.objects.create_user(f"{name}@example.com", "correct horse battery staple") for name in NAMES]
    account, other = accounts.create_account("Acme Corp", actor="t"), accounts.create_account("Other Ltd", actor="t")
    accounts.add_member(account, people[0], [Role.objects.get(pk=ADMINISTRATOR)], actor="t")
    stage = set_stage(Cast(account, *people, other))
    for name in ("Third Atom", "Late Atom"):
        create_atom(account, name=name, type="ATOM", environment=stage.production, actor=stage.alice)
    sweep()
    return {"account": account.code}


def stage() -> Stage:
    account = Account.objects.get(name="Acme Corp")
    people = [User.objects.get(email=f"{name}@example.com") for name in NAMES]
    cast = Cast(account, *people, Account.objects.get(name="Other Ltd"))
    places = [Environment.objects.get(name=name) for name in ("Production", "Test")]
    made = [Atom.objects.get(name=name) for name in ("Orders Atom", "Second Atom")]
    return Stage(cast, *places, *made, Connection.objects.get())


def tokens(atoms: list[str]) -> dict[str, Any]:
    found = {row.name: row for row in Atom.objects.filter(name__in=atoms)}
    alice = stage().alice
    return {name: create_installer_token(row, minutes=30, actor=alice)[1] for name, row in found.items()}


def set_values(**fields: str) -> dict[str, Any]:
    return {"revision": save(stage(), **fields).revision}


def rotate() -> dict[str, Any]:
    rotation.request_rotation_of_all(stage().account, actor=stage().alice)
    while sweep():
        pass
    unfinished = stage().account.operations.unfinished().filter(kind=rotation.KIND).count()
    return {"unfinished": unfinished, "version": calls.key_versions(recipient_of(stage().production)).oldest}


def revoke(atom: str) -> dict[str, Any]:
    revoke_node(Node.objects.get(atom__name=atom, state="enrolled"), actor=stage().alice)
    sweep()
    # As if it had been long ago: what was destroyed a moment ago is left to its own operation.
    SecretId.objects.exclude(destroyed_at=None).update(destroyed_at=timezone.now() - timedelta(hours=1))
    return {}


def look() -> dict[str, Any]:
    """What the database, and the vault, say of it all."""
    taken_back = SecretId.objects.exclude(destroyed_at=None)
    there = {
        accessor
        for mount in ("environments", "atoms")
        for role in calls.roles(mount)
        for accessor in calls.secret_ids(mount, role)
    }
    lost = ExtensionValue.objects.exclude(data_key__lost_at=None).values_list("field__label", flat=True)
    production = stage().production
    return {
        "revision": production.extensions_revision,
        "taken_back_and_there": sum(row.accessor in there for row in taken_back),
        "lost": sorted(lost),
        "lost_keys": DataKey.objects.exclude(lost_at=None).count(),
        "nodes": dict(Node.objects.values_list("atom__name", "state")),
        "adopted": stage().account.audit_entries.filter(action="ADOPT").count(),
        "alarms": stage().account.login_alarms.filter(closed_at=None).count(),
    }


if __name__ == "__main__":
    step = globals()[sys.argv[1]]
    print(json.dumps(step(**json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))))
