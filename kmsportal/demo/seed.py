"""The story the demo data tells: Acme sells things, and its Atoms need the passwords of three systems.

Used only by the embedded stack. Every value is random, so nothing here can be mistaken for, or become, a real secret.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

from django.db import transaction

from accounts import actions as accounts
from accounts.models import Account, Role, User
from accounts.privileges import Privilege
from atoms import actions as atoms
from atoms.models import Atom, Environment, Node
from extensions import actions as extensions
from extensions.models import Connection, Field
from extensions.plan import FieldChange, PropertyChange
from extensions.secret import Secret
from vaults.keys.provision import activate_kms

NAME = "Acme Corp"
READ_ONLY = "Read only"
PEOPLE = {
    "administrator@acme.example": "Administrator",
    "integration@acme.example": "Standard User",
    "auditor@acme.example": READ_ONLY,
}
ENVIRONMENTS = {"Production": "PROD", "Test": "TEST"}
ATOMS = (
    ("Order hub", "ATOM", "Production"),  # the demo runtime enrols as this one
    ("Billing cluster", "MOLECULE", "Production"),
    ("Partner cloud", "CLOUD", "Test"),
    ("Order hub (old)", "ATOM", None),
)
# (field id, label, encrypted, the connection component's value)
CONNECTIONS = {
    "Orders database": (
        ("host", "Host", False, "orders-db.acme.example"),
        ("port", "Port", False, "5432"),
        ("database", "Database", False, "orders"),
        ("user", "User", False, "order_hub"),
        ("password", "Password", True, ""),
    ),
    "Payment gateway": (
        ("url", "URL", False, "https://payments.example/api"),
        ("merchantId", "Merchant id", False, ""),
        ("apiKey", "API key", True, ""),
        ("signingKey", "Signing key", True, ""),
    ),
    "Warehouse SFTP": (
        ("host", "Host", False, "sftp.warehouse.example"),
        ("user", "User", False, "acme"),
        ("privateKey", "Private key", True, ""),
        ("passphrase", "Passphrase", True, ""),
    ),
}
KEYS_WITHIN = 60.0  # seconds a worker gets to make the keys


class KeysMissing(Exception):
    """No worker made the keys in time."""


def seed(password: Callable[[str], str]) -> dict[str, Any]:
    """Make what is missing of accounts, environments, Atoms and connections; returns what demo.json tells of them."""
    account = Account.objects.filter(name=NAME).first() or _account(password)
    return {
        "account": account.code,
        "users": [{"email": email, "password": password(email), "role": role} for email, role in PEOPLE.items()],
        "environments": [{"id": str(row.pk), "name": row.name} for row in account.environments.all()],
        "atoms": [{"id": str(row.pk), "name": row.name} for row in account.atoms.all()],
    }


@transaction.atomic
def _account(password: Callable[[str], str]) -> Account:
    account = accounts.create_account(NAME, actor="demo")
    Role(account=account, name=READ_ONLY, privileges=Privilege.ATOM_MANAGEMENT_READ_ONLY).save(force_insert=True)
    people = {}
    for email, role_name in PEOPLE.items():
        user = User.objects.filter(email=email).first() or User.objects.create_user(email, password(email))
        role = Role.objects.filter(account=account, name=role_name).first() or Role.objects.get(
            account=None, name=role_name
        )
        accounts.add_member(account, user, [role], actor="demo")
        people[role_name] = user
    activate_kms(account, actor="demo")
    _places(account, people["Administrator"])
    return account


def _places(account: Account, actor: User) -> None:
    environments: dict[str | None, Environment] = {}
    for name, classification in ENVIRONMENTS.items():
        environments[name] = atoms.create_environment(account, name=name, classification=classification, actor=actor)
    for name, kind, place in ATOMS:
        atoms.create_atom(account, name=name, type=kind, environment=environments.get(place), actor=actor)
    for name, fields in CONNECTIONS.items():
        connection = Connection.objects.create(account=account, name=name)
        for position, (key, label, encrypted, value) in enumerate(fields):
            Field.objects.create(
                connection=connection,
                key=key,
                label=label,
                encrypted=encrypted,
                component_value=value,
                position=position,
            )


def installer_token() -> str:
    """An installer token for the demo runtime's Atom; the node it had (with other addresses, or lost) is revoked.

    Asked for once workers run, so this is also where the first values are saved: their keys exist now. Raises KeysMissing.
    """
    atom = Atom.objects.get(account__name=NAME, name=ATOMS[0][0])
    actor = User.objects.get(email=next(iter(PEOPLE)))
    _save_values(_with_keys(Environment.objects.get(account=atom.account, name="Production")), actor)
    with transaction.atomic():
        for node in atom.nodes.filter(state=Node.State.ENROLLED):
            atoms.revoke_node(node, actor=actor)
        return atoms.create_installer_token(atom, minutes=60, actor=actor)[1]


def _with_keys(environment: Environment) -> Environment:
    deadline = time.monotonic() + KEYS_WITHIN
    while environment.provisioned_at is None:
        if time.monotonic() > deadline:
            raise KeysMissing("No worker made the keys of the demo environment in time.")
        time.sleep(0.2)
        environment.refresh_from_db()
    return environment


def _save_values(environment: Environment, actor: User) -> None:
    if environment.extensions_revision:
        return
    fields = {(field.connection.name, field.key): field for field in extensions.fields_of(environment.account)}

    def secret(connection: str, key: str) -> FieldChange:
        return FieldChange(fields[connection, key], "secret", Secret(secrets.token_urlsafe(18)))

    changes = [
        secret("Orders database", "password"),
        secret("Payment gateway", "apiKey"),
        FieldChange(fields["Payment gateway", "merchantId"], "plain", "acme-0042"),
        secret("Warehouse SFTP", "passphrase"),
    ]
    properties = [PropertyChange("region", "eu-west"), PropertyChange("batchSize", "500")]
    extensions.save_extensions(environment, changes, properties, expected_revision=0, actor=actor)
