"""Stores and deliveries made by hand, for tests that need no server."""

from __future__ import annotations

import os
from pathlib import Path

from kmscore.sealed.manifest import Entry, digest
from kmsruntime.disk.credentials import (
    AtomCredentials,
    EnvironmentCredentials,
    VaultLogin,
    write_atom,
    write_environment,
)
from kmsruntime.disk.home import Config, Home, write_document
from kmsruntime.disk.journal import HandoverDelivery, Journal, WrappedCredential, WrappedLogin, write_journal
from kmsruntime.disk.state import State, write_state
from kmsruntime.store.file import StoreFile
from kmsruntime.store.format import Header
from kmsruntime.store.index import Entries
from kmsruntime.store.keys import AtRestKey

ACCOUNT = "0f2c6c1e-7f6f-4a55-8d0a-0d8f6c1b7a01"
ATOM = "1b4e28ba-2fa1-4d2b-883f-0016d3cca427"
ENVIRONMENT = "6d1f4a2b-3c5d-4e6f-9a7b-8c9d0e1f2a3b"
ORDERS, BILLING = "9f1d9a3e-2b52-4d0b-9d6c-0a1b2c3d4e5f", "aaaaaaaa-2b52-4d0b-9d6c-0a1b2c3d4e5f"


def sealed(name: str, field: str, value: str, revision: int = 3, connection: str = ORDERS) -> tuple[Entry, bytes]:
    return Entry("sealed", ("connection", connection, field), name, revision), value.encode()


def plain(name: str, field: str, value: str, revision: int = 3, connection: str = ORDERS) -> tuple[Entry, str]:
    return Entry("plain", ("connection", connection, field), name, revision, digest(value)), value


def missing(name: str, field: str, revision: int = 3, connection: str = ORDERS) -> tuple[Entry, None]:
    return Entry("missing", ("connection", connection, field), name, revision), None


def property_(name: str, value: str, revision: int = 3) -> tuple[Entry, str]:
    return Entry("plain", ("property", name), name, revision, digest(value)), value


ENTRIES: Entries = [
    sealed("Orders DB", "password", "pa55-canary ü"),
    plain("Orders DB", "user", "orders"),
    missing("Orders DB", "apiKey"),
    sealed("Billing", "password", "other-canary", connection=BILLING),
    property_("region", "eu"),
]


def header(**changes: object) -> Header:
    found = {"environment": ENVIRONMENT, "environment_name": "Production", "revision": 3, "seen": {ENVIRONMENT: 3}}
    return Header(ACCOUNT, ATOM, **(found | changes))  # type: ignore[arg-type]


def at_rest_key() -> AtRestKey:
    return AtRestKey(os.urandom(32), "vault:v1:wrapped", "hosted", ATOM, 1)


def enrolled_by_hand(directory: Path) -> Home:
    """A directory with every file that a container may have; nobody answers where its addresses lead."""
    file, home = store_file(directory), Home(directory)
    home.write_config(Config("http://127.0.0.1:9", "http://127.0.0.1:9", allow_vaults=("https://a.example:443",)))
    logins = [VaultLogin(mount, ATOM, "role", "secret", "accessor", 1, 0) for mount in ("atoms", "environments")]
    atom = AtomCredentials(ACCOUNT, "acme", ATOM, "Orders Atom", "atom", ORDERS, "hash", "token", *logins)
    write_atom(home, atom)
    write_environment(home, EnvironmentCredentials("token", ENVIRONMENT, "Production", 1, logins[1]))
    row = {"data_key": ORDERS, "document": 1, "sealed": "AAAA"}
    answer = {"format": 1, "revision": 2, "account": ACCOUNT, "atom": ATOM, "settings": row, "file": row}
    write_document(home.settings, {"announced": 2, "answers": {"2": answer}})
    token = {"ends": 1900000000, "because": "ttl", "certain": True, "renews_every": 5, "problem": "token_expired"}
    step = {"step": "address", "state": "failed", "code": "env_missing", "detail": "X"}
    write_state(home, State("switch_pending", "The vault.", 1, 1, preflight=[step], token=token))
    halves = WrappedCredential("wrapping", 1), WrappedCredential("wrapping", 1, True, "value")
    delivery = HandoverDelivery(ORDERS, ACCOUNT, "acme", ATOM, "Orders Atom", "atom", ENVIRONMENT, "Production", 1)
    journal = Journal("renewal", "", "token", "token", ORDERS, delivery, [WrappedLogin("atoms", ATOM, *halves)])
    write_journal(home, journal)
    file.write(header(source="byov"), ENTRIES, file.prepare(at_rest_key()))
    return home


def store_file(directory: Path, key_file: str = "") -> StoreFile:
    home = Home(directory)
    home.prepare()
    config = Config("", "", key_file=key_file)
    home.write_config(config)
    return StoreFile(home, config)
