"""What this container holds: the store, and the environment's half of its credentials, wherever that lies.

Not wrapped, the half lies in environment.json beside the store. With a wrapped encryption key it lies in the store, sealed,
so that it is replaced atomically with it; then no file holds it, a key or an opened credential in the clear, and every
change of it writes the store under a new data key. Whichever the store in use says counts: environment.json beside a store
with a half of its own is what a crash left, and goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from kmsruntime.disk import credentials, files
from kmsruntime.disk.credentials import EnvironmentCredentials
from kmsruntime.disk.home import Config, Home
from kmsruntime.disk.journal import read_journal, write_journal
from kmsruntime.errors import (
    CustomerVaultMisconfigured,
    CustomerVaultRefused,
    CustomerVaultUnavailable,
    NotEnrolled,
    SettingsRefused,
    StoreDamaged,
)
from kmsruntime.store.file import StoreFile, StoreKey
from kmsruntime.store.format import Header, Store
from kmsruntime.store.index import Entries
from kmsruntime.store.keys import KeySource

TRUST_SECONDS: Final = 600  # how long a daemon believes that the file it checked has not rotted
VAULT_TROUBLE: Final = (CustomerVaultUnavailable, CustomerVaultRefused, CustomerVaultMisconfigured, SettingsRefused)


class SealedState:
    """The holding of one directory. source: gives the vault that makes data keys for a revision of the KMS settings."""

    def __init__(self, home: Home, config: Config, source: Callable[[int], KeySource]) -> None:
        self._home, self._source = home, source
        self.file = StoreFile(home, config, lambda header: source(header.settings_revision))
        self._last: tuple[object, float, Store] | None = None
        self._front: tuple[object, Header | None] | None = None
        self._is_tidy = False

    # -- reading ---------------------------------------------------------------------------------------------------

    def store(self) -> Store | None:
        """The store, every value of it opened once; a daemon looks again only when the file changed or time has passed.

        None when there is none. Raises StoreDamaged, StorageFailed, and the vault's errors when it has to be asked.
        """
        held = self._looked_at()
        if held is None or self._last is None or time.monotonic() >= self._last[1]:
            signature = self.file.signature()
            held = self.file.read()
            if held is not None:
                held.open_all()
                self._last = (signature, time.monotonic() + TRUST_SECONDS, held)
                self._front = (signature, held.header)
        return held

    def header(self) -> Header | None:
        """What the store says of itself, None without one or when even that is damaged. Opens nothing."""
        signature = self.file.signature()
        if self._front is None or self._front[0] != signature:
            found = None
            with suppress(StoreDamaged):
                found = self.file.header()
            self._front = (signature, found)
        return self._front[1]

    def environment(self) -> EnvironmentCredentials:
        """The environment's half. Raises NotEnrolled, StoreDamaged, and with a wrapped encryption key the vault's errors."""
        header = self.header()
        if header is not None and header.memory_only:
            held = self._looked_at()
            return credentials.decode_environment(held.credentials if held else self.file.credentials())
        lost = False
        try:
            return credentials.read_environment(self._home)
        except NotEnrolled:
            lost = header is None and self._home.store.exists() and self._home.atom.exists()
            if not lost:
                raise
        raise StoreDamaged(
            "store_lost",
            "The store is damaged, and with it the credentials in it: restore it, or empty the directory and enrol again "
            "with a new installer token.",
        )

    def is_memory_only(self) -> bool:
        """Whether the store in use has a wrapped encryption key."""
        header = self.header()
        return header is not None and header.memory_only

    def is_open(self) -> bool:
        """Whether what is held can be used without asking a customer's vault first."""
        header = self.header()
        return header is None or self.file.is_at_hand(header)

    def _looked_at(self) -> Store | None:
        if self._last is None or self._last[0] != self.file.signature():
            return None
        return self._last[2]

    # -- writing ---------------------------------------------------------------------------------------------------

    def new_key(self, header: Header) -> StoreKey:
        """A new data key of the vault the store is sealed with. Raises the vault's errors, StorageFailed."""
        return self.file.prepare(self._source(header.settings_revision).new_data_key())

    def put(
        self, header: Header, entries: Entries, key: StoreKey | None, half: EnvironmentCredentials | None = None
    ) -> None:
        """Replace the store, and the environment's half when one is given. key None: nothing is held, no key is needed.

        At every moment one of them holds the half, and whichever the store says is whole. Raises StorageFailed.
        """
        was_inside = self.is_memory_only()
        header = self._unless_in_use(header, key)
        if key is not None and key.key.memory_only:
            inside = half or (self.environment() if was_inside else _exposed(self.environment()))
            self.file.write(header, entries, key, credentials.encode_environment(inside))
            self._last, self._is_tidy = None, False
            self.tidy()
            return
        if was_inside:
            credentials.write_environment(self._home, half or self.environment())
        if key is None:
            self.file.write_empty(header)
        else:
            self.file.write(header, entries, key)
        self._last = None
        if half is not None and not was_inside:
            credentials.write_environment(self._home, half)

    def _unless_in_use(self, header: Header, key: StoreKey | None) -> Header:
        """A request for a new key is not met by the one in use: the next answer of the portal repeats it."""
        in_use = self.header()
        if key is None or in_use is None or key.id != in_use.key_id or header.rekey_revision == in_use.rekey_revision:
            return header
        return replace(header, rekey_revision=in_use.rekey_revision, etag="")

    def put_credentials(self, half: EnvironmentCredentials) -> None:
        """Replace the environment's half; what the store holds stays, unless it is damaged: the half is what fetches it anew.

        Raises StorageFailed.
        """
        if not self.is_memory_only():
            credentials.write_environment(self._home, half)
            return
        header, entries = self._kept_beside_credentials()
        known = self.environment()
        if half.sync_token == known.sync_token:  # a hand-over brings logins only
            half = replace(
                half, sync_exposed=known.sync_exposed, next_sync_token=half.next_sync_token or known.next_sync_token
            )
        self.put(header, entries, self._key_for_credentials(header), half)

    def _kept_beside_credentials(self) -> tuple[Header, Entries]:
        """What is held; of a damaged store nothing but the header, which has everything delivered once more."""
        with suppress(StoreDamaged):
            held = self.store()
            assert held is not None
            return held.header, held.entries()
        header = self.header()
        assert header is not None
        return replace(header, revision=0, etag=""), ()

    def keeps_credentials(self) -> bool:
        """Whether new credentials can be put beside all that is held; not in a damaged store, which is healed first."""
        if not self.is_memory_only():
            return True
        with suppress(StoreDamaged):
            return self.store() is not None
        return False

    def put_nothing(self, header: Header, half: EnvironmentCredentials | None = None) -> None:
        """Hold no values (any more), and perhaps another half."""
        key = self._key_for_credentials(header) if self.is_memory_only() else None
        self.put(header, (), key, half)

    def _key_for_credentials(self, header: Header) -> StoreKey:
        """A new data key; the one in use when the customer's vault gives none: a wipe does not wait for it."""
        with suppress(*VAULT_TROUBLE):
            return self.new_key(header)
        in_use = self.header()
        assert in_use is not None
        return self.file.in_use(in_use)

    def tidy(self) -> None:
        """What a crash left goes, once a run: keys of other stores, and beside a wrapped encryption key all in the clear."""
        header = self.header()
        if self._is_tidy or header is None:
            return
        if header.memory_only:
            files.remove(self._home.environment)
            journal = read_journal(self._home)
            if journal is not None and journal != journal.public():
                write_journal(self._home, journal, public=True)
        self.file.forget_unused(header)
        self._is_tidy = True


def _exposed(half: EnvironmentCredentials) -> EnvironmentCredentials:
    return replace(half, exposed=half.login is not None, sync_exposed=True)
