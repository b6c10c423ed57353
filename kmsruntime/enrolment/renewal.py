"""The vault credentials of a directory, in time: after a move, when they are refused, and before they end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kmsruntime.container import Container
from kmsruntime.disk import credentials
from kmsruntime.disk.journal import Purpose, fingerprint
from kmsruntime.disk.state import read_state, write_state
from kmsruntime.enrolment.enrol import Wait, new_credentials, under_way
from kmsruntime.errors import Intrusion, PortalRefused, RuntimeProblem
from kmsruntime.remote.hosted_vault import vault_errors

CHECK_SECONDS: Final = 6 * 3600  # between two looks at the vault's clock


class Renewal:
    """Asks for new credentials when they are needed, and puts them where `sealed_state` keeps them."""

    def __init__(self, container: Container, wait: Wait, say: Callable[[str], None]) -> None:
        self._home, self._config, self._portal = container.home, container.config, container.portal
        self._vault, self._sealed_state = container.hosted, container.sealed_state
        self._wait, self._say = wait, say

    def fetch(self, purpose: Purpose) -> None:
        """Raises the errors of kmsruntime.enrolment.enrol."""
        new_credentials(self._home, self._config, self._portal, purpose, self._wait, self._sealed_state)

    def go_on(self) -> None:
        """Finish a hand-over that was begun, and begin one in good time. Raises the errors of kmsruntime.enrolment.enrol."""
        purpose = under_way(self._home)
        if purpose is not None and purpose != "renewal":
            self.fetch(purpose)
        credentials.read_atom(self._home)  # without it there is nothing to renew …
        self._sealed_state.environment()  # … and without this
        self.in_time(begun=purpose == "renewal")

    def in_time(self, *, begun: bool = False) -> None:
        """Ask for new secret_ids when less than a third of their life is left, or go on asking when that was begun.

        What goes wrong is said and tried again with the next sync: the credentials in use are good for long enough. That is
        why a damaged store is healed first: what still opens in it would be lost with the new ones.
        """
        try:
            if not self._sealed_state.keeps_credentials():
                return
            if begun or self._is_due():
                self.fetch("renewal")
                self._say("Took new vault credentials in good time.")
            self._replace_sync_credential()
        except Intrusion:
            raise
        except RuntimeProblem as problem:
            self._say(f"Vault credentials could not be renewed yet: {problem.sentence}")

    def _replace_sync_credential(self) -> None:
        """One that lay in the clear before the encryption key was wrapped ends: a copy of the disk from then asks in vain.

        The new one is in the store before the portal hears of it; after a crash either may be the one it knows.
        """
        if not self._sealed_state.is_memory_only():
            return
        half = self._sealed_state.environment()
        if not (half.sync_exposed or half.next_sync_token):
            return
        if not half.next_sync_token:
            half = replace(half, next_sync_token=credentials.new_portal_credential())
            self._sealed_state.put_credentials(half)
        body = {"sync_hash": fingerprint(half.next_sync_token)}
        try:
            self._portal.post("credentials/sync", half.sync_token, body)
        except PortalRefused as refusal:
            if refusal.status != 401:
                raise
            self._portal.post("credentials/sync", half.next_sync_token, body)
        self._sealed_state.put_credentials(
            replace(half, sync_token=half.next_sync_token, next_sync_token="", sync_exposed=False)
        )

    def _is_due(self) -> bool:
        """By the vault's clock. This machine's only hints at when to look; a jump, in either direction, makes us look.

        A login that once lay in the clear, before the encryption key was wrapped, is due at once.
        """
        if self._sealed_state.is_memory_only() and self._sealed_state.environment().exposed:
            return True
        state, at = read_state(self._home), int(time.time())
        if abs(at - state.vault_checked) < CHECK_SECONDS:
            return False
        with vault_errors():
            vault_time = self._vault.server_time()
        write_state(self._home, replace(state, vault_checked=at))
        logins = (credentials.read_atom(self._home).login, self._sealed_state.environment().login)
        return any(login.wants_renewal(vault_time) for login in logins if login)
