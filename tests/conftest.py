"""The cast, and the real servers they meet.

Alice administers the account, Bob may only read, Charlie is in another account. The hosted vault is a real OpenBao with the
portal's layout; `portal` is the whole portal as separate processes (gunicorn, Celery worker) on the tests' database.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.db.utils import ProgrammingError
from django.test import Client

from accounts import actions as accounts
from accounts.models import Account, Role, User
from accounts.privileges import ADMINISTRATOR, BUILT_IN_ROLES, Privilege
from atoms import actions as atoms
from atoms.models import Atom, Environment
from extensions.connections import FieldSpec, save_connection
from extensions.models import Connection, Field
from kmscore.vaultclient.client import Vault
from kmsportal.management.commands import database_roles
from operations.work import sweep
from tests import guard, live
from tests.keys import write_development_keys
from tests.live import LivePortal, start_portal
from tests.servers import OpenBao, start_openbao
from vaults.hosted import hvac_client, layout
from vaults.hosted.credentials import HELD, Credential, Credentials, issue_credential, write_credentials
from vaults.hosted.sessions import drop_tokens
from vaults.keys.provision import activate_kms
from vaults.models import Recipient

PROCESSES_ROLE = "kms_processes"
PASSWORD = "correct horse battery staple"  # noqa: S105 (for tests' own users)


@dataclass
class HostedVault:
    """A real OpenBao with the layout, and the credentials files of the portal's processes."""

    server: OpenBao
    credentials: Path
    root: Vault = field(repr=False)

    @property
    def address(self) -> str:
        return self.server.address


@pytest.fixture(scope="session")
def hosted_vault_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedVault]:
    server = start_openbao()
    try:
        yield install_layout(server, tmp_path_factory.mktemp("credentials"))
    finally:
        server.stop()


def install_layout(server: OpenBao, directory: Path) -> HostedVault:
    """Install the layout and write the processes' directories, plus `all` for tests that play every process."""
    root = Vault(server.address, token=server.root_token)
    layout.install(hvac_client.client_of(root))
    every = {}
    for name, identities in HELD.items():
        issued = {identity: issue_credential(hvac_client.client_of(root), identity) for identity in identities}
        _write(directory / name, issued)
        every |= issued
    _write(directory / "all", every)
    return HostedVault(server, directory, root)


def _write(directory: Path, issued: dict[str, Credential]) -> None:
    write_development_keys(directory)
    write_credentials(directory, Credentials(layout.LAYOUT_VERSION, issued))


@pytest.fixture
def hosted_vault(hosted_vault_server: HostedVault, settings: Any) -> Iterator[HostedVault]:
    """The hosted vault, with this process playing web and worker alike."""
    settings.VAULT_ADDR = hosted_vault_server.address
    settings.VAULT_PUBLIC_ADDR = hosted_vault_server.address
    settings.CREDENTIALS = str(hosted_vault_server.credentials / "all")
    drop_tokens()
    yield hosted_vault_server
    drop_tokens()


@pytest.fixture(scope="session", autouse=True)
def memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the tests' processes remember outside the database."""
    django_settings.STATE = tmp_path_factory.mktemp("state")


@pytest.fixture
def built_in_roles(db: None) -> None:
    """Transactional tests empty every table, the migrations' rows included."""
    for role_id, (name, privileges) in BUILT_IN_ROLES.items():
        if not Role.objects.filter(pk=role_id).exists():
            Role(pk=role_id, name=name, privileges=" ".join(privileges)).save(force_insert=True)


def client_of(user: User) -> Client:
    """A browser of this user, freshly signed in."""
    client = Client(headers={"accept": "text/html"})
    signed_in = client.post("/auth/login/", {"login": user.email, "password": PASSWORD})
    assert signed_in.status_code == 302, "signing in failed"
    return client


def forget_roles(vault: HostedVault) -> None:
    """The vault outlives the tests' databases: what earlier tests made there would be readers that nobody enrolled."""
    kept = {str(pk) for pk in Recipient.objects.values_list("pk", flat=True)}
    for mount in ("environments", "atoms"):
        status, answer = vault.root.status_of("LIST", f"auth/{mount}/role")
        for role in set((answer or {})["data"]["keys"] if status == 200 else ()) - kept:
            vault.root.call("DELETE", f"auth/{mount}/role/{role}")


@dataclass
class Cast:
    account: Account
    alice: User
    bob: User
    charlie: User
    other: Account

    def __post_init__(self) -> None:
        self._clients: dict[str, Client] = {}

    def client(self, name: str) -> Client:
        """The signed-in client of alice, bob or charlie."""
        if name not in self._clients:
            self._clients[name] = client_of(getattr(self, name))
        return self._clients[name]


def read_only_role(account: Account) -> Role:
    role = Role(account=account, name="Readers", privileges=Privilege.ATOM_MANAGEMENT_READ_ONLY)
    role.save(force_insert=True)
    return role


@pytest.fixture
def cast(built_in_roles: None) -> Cast:
    """Accounts and people; KMS is not active."""
    from django.core.cache import cache

    cache.clear()  # sign-in rate limits of earlier tests
    administrator = Role.objects.get(pk=ADMINISTRATOR)
    people = [User.objects.create_user(f"{name}@example.com", PASSWORD) for name in ("alice", "bob", "charlie")]
    account = accounts.create_account("Acme Corp", actor="tests")
    other = accounts.create_account("Other Ltd", actor="tests")
    accounts.add_member(account, people[0], [administrator], actor="tests")
    accounts.add_member(account, people[1], [read_only_role(account)], actor="tests")
    accounts.add_member(other, people[2], [administrator], actor="tests")
    return Cast(account, *people, other)


@dataclass
class Stage:
    """Alice's account with KMS active: two environments, two Atoms in the first, one connection."""

    cast: Cast
    production: Environment
    test: Environment
    atom: Atom
    second: Atom
    connection: Connection

    @property
    def alice(self) -> User:
        return self.cast.alice

    @property
    def account(self) -> Account:
        return self.cast.account

    def field(self, key: str) -> Field:
        return Field.objects.select_related("connection").get(connection=self.connection, key=key)


@pytest.fixture
def stage(transactional_db: None, cast: Cast, hosted_vault: HostedVault) -> Stage:
    """Provisioned at a real vault. Use with transactional tests: the vault is never called inside a transaction."""
    return set_stage(cast)


def set_stage(cast: Cast) -> Stage:
    activate_kms(cast.account, actor="tests")
    cast.account.refresh_from_db()
    alice = cast.alice
    production = atoms.create_environment(cast.account, name="Production", classification="PROD", actor=alice)
    test = atoms.create_environment(cast.account, name="Test", classification="TEST", actor=alice)
    atom = atoms.create_atom(cast.account, name="Orders Atom", type="ATOM", environment=production, actor=alice)
    second = atoms.create_atom(cast.account, name="Second Atom", type="ATOM", environment=production, actor=alice)
    sweep()
    specs = [
        FieldSpec(None, "host", "Host", False, True, "db.example.com"),
        FieldSpec(None, "user", "User", False, True, "app"),
        FieldSpec(None, "password", "Password", True, True, ""),
        FieldSpec(None, "apiKey", "API key", True, True, ""),
        FieldSpec(None, "internal", "Internal", False, False, "not extensible"),
    ]
    orders = save_connection(cast.account, None, name="Orders database", fields=specs, actor=alice)
    rows: list[Any] = [production, test, atom, second]
    deadline = time.monotonic() + 60
    while not all(row.provisioned_at for row in rows):  # a live portal's worker may have taken one, and be at it still
        assert time.monotonic() < deadline
        for row in rows:
            row.refresh_from_db()
    return Stage(cast, production, test, atom, second, orders)


def database_url() -> str:
    """The tests' own database, for the portal's processes; on PostgreSQL in their role."""
    database = django_settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    return f"postgres://{PROCESSES_ROLE}:{PROCESSES_ROLE}@{database['HOST']}:{database['PORT']}/{database['NAME']}"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """On PostgreSQL also the role that processes have: the owner makes the tables, and nothing else (database_roles)."""
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            with contextlib.suppress(ProgrammingError):  # another run of tests on this server made it
                cursor.execute(f"CREATE ROLE {PROCESSES_ROLE} LOGIN PASSWORD '{PROCESSES_ROLE}'")
            for statement in database_roles.statements(PROCESSES_ROLE):
                cursor.execute(statement)


@pytest.fixture(autouse=True)
def role_of_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """On PostgreSQL a test is a process: it works in the processes' role, unless it is marked `owner`."""
    marked = request.node.get_closest_marker("django_db"), request.node.get_closest_marker("owner")
    if connection.vendor != "postgresql" or marked[0] is None or marked[1] is not None:
        yield
        return
    request.getfixturevalue("transactional_db" if marked[0].kwargs.get("transaction") else "db")
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {PROCESSES_ROLE}")
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")


@pytest.fixture(scope="session")
def live_processes(
    django_db_setup: None, hosted_vault_server: HostedVault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LivePortal]:
    """gunicorn, worker and Valkey on the tests' database and vault."""
    portal = start_portal(hosted_vault_server, database_url(), tmp_path_factory.mktemp("portal"))
    live.running.append(portal)
    try:
        yield portal
    finally:
        live.running.remove(portal)
        portal.stop()
    assert portal.forbidden_connections() == "", "I5: a portal process reached beyond its operator's addresses"


@pytest.fixture(scope="session", autouse=True)
def no_forbidden_connection() -> Iterator[None]:
    """The same for requests that the tests' clients make in this process."""
    yield
    assert guard.seen == [], "I5: a request reached beyond the operator's addresses"


@pytest.fixture(autouse=True)
def workers_only_where_asked_for(request: pytest.FixtureRequest) -> None:
    """The live portal stays for the whole session; its worker would meddle with tests that do not ask for it."""
    for portal in live.running:
        portal.work() if "portal" in request.fixturenames else portal.rest()


@pytest.fixture
def portal(live_processes: LivePortal, stage: Stage, hosted_vault: HostedVault, settings: Any) -> Iterator[LivePortal]:
    """The running portal with `stage` in its database. `portal.url`, `portal.vault_address`, `portal.stage`."""
    settings.PORTAL_URL = live_processes.url
    live_processes.stage = stage
    forget_roles(hosted_vault)
    with contextlib.ExitStack() as stack:
        live_processes.runtimes = stack
        yield live_processes


# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's synchronous interface runs an event loop
