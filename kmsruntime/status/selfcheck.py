"""The self-check: opens a worthless value that the portal sealed like a secret, and shows the portal that it did.

The whole way in transit is gone: log in at the hosted vault, read the document of wrapped keys, unwrap, open. It says
nothing here and changes nothing; what fails is told to the portal as a code, and syncing goes on whatever comes of it.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, replace
from typing import Any, Final

from kmscore.sealed import selfcheck
from kmscore.sealed.envelope import SealBroken, open_sealed
from kmscore.sealed.selfcheck import selfcheck_place
from kmscore.vaultclient.answers import DataKeysBroken, VaultError, VaultMisconfigured, VaultRefused, VaultUnavailable
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from kmsruntime.disk import credentials
from kmsruntime.disk.credentials import EnvironmentCredentials, VaultLogin
from kmsruntime.disk.home import Home
from kmsruntime.disk.state import read_state, write_state
from kmsruntime.errors import PortalMisconfigured, PortalRefused, RuntimeProblem
from kmsruntime.remote.fields import number, text
from kmsruntime.remote.hosted_vault import log_in
from kmsruntime.remote.portal import Portal
from kmsruntime.store.sealed_state import SealedState

EVERY_SECONDS: Final = 300.0
SOON_SECONDS: Final = 60.0  # the portal was not ready, or something crossed the question
NOT_HERE_SECONDS: Final = 3600.0  # a portal that does not know of it yet
SOON: Final = ("selfcheck_not_ready", "selfcheck_changed", "not_provisioned", "challenge_unknown")


@dataclass(frozen=True, slots=True)
class SealedSelfCheck:
    """What the portal sent to be opened. Raises ValueError for anything else (`read`)."""

    environment: str
    data_key: str
    document: int
    revision: int
    sealed: bytes
    challenge: bytes


class SelfCheck:
    """Of one directory; `run` is called by whoever holds no lock of it.

    trouble: what the hosted vault failed with in the last check that asked it: it was not reached, or no vault answered.
    """

    def __init__(self, home: Home, portal: Portal, vault: Vault, sealed_state: SealedState) -> None:
        self._home, self._portal, self._vault, self._sealed_state = home, portal, vault, sealed_state
        self.trouble: VaultError | None = None

    def run_if_due(self) -> None:
        """Unless this directory was checked within EVERY_SECONDS, by a daemon perhaps."""
        checked = read_state(self._home).self_checked
        if not 0 <= time.time() - checked < EVERY_SECONDS:  # a clock that was put back counts as due
            self.run()

    def run(self) -> float:
        """One check. Returns after how many seconds the next one is wanted; raises nothing."""
        try:
            with self._home.lock():
                return self._run()
        except PortalMisconfigured:
            return NOT_HERE_SECONDS
        except PortalRefused as refused:
            return SOON_SECONDS if refused.code in SOON else EVERY_SECONDS
        except RuntimeProblem:
            return EVERY_SECONDS  # the sync meets the same trouble and says it
        except Exception:  # noqa: BLE001 whatever a server answers, this decides nothing
            return EVERY_SECONDS

    def _run(self) -> float:
        if not self._sealed_state.is_open():
            return EVERY_SECONDS  # wrapped, and the customer's vault has not opened it: nothing is proved
        half = self._sealed_state.environment()
        if half.login is None:
            return EVERY_SECONDS
        answer = self._portal.post("selfcheck", half.sync_token, {})
        write_state(self._home, replace(read_state(self._home), self_checked=int(time.time())))
        test_value = read(answer.document)
        if test_value.environment != half.environment:
            return SOON_SECONDS  # the Atom has moved; the next sync follows
        self._portal.post("selfcheck/answer", half.sync_token, self._answer(half, half.login, test_value))
        return SOON_SECONDS if self.trouble else EVERY_SECONDS

    def _answer(self, half: EnvironmentCredentials, login: VaultLogin, test_value: SealedSelfCheck) -> dict[str, Any]:
        atom = credentials.read_atom(self._home)
        place = selfcheck_place(atom.account, half.environment, test_value.revision, test_value.data_key)
        self.trouble = None
        try:
            value = open_sealed(self._data_key(login, test_value), test_value.sealed, place)
        except SealBroken:
            return {"code": "selfcheck_broken"}
        except DataKeysBroken:
            return {"code": "data_key_broken"}
        except KeyError:
            return {"code": "data_key_missing"}
        except VaultError as error:
            self.trouble = error if isinstance(error, VaultUnavailable | VaultMisconfigured) else None
            return {"code": error.code}
        given = selfcheck.answer(selfcheck.digest(value), test_value.challenge, atom.node)
        return {"proof": given.hex(), "revision": test_value.revision}

    def _data_key(self, login: VaultLogin, test_value: SealedSelfCheck) -> bytes:
        """Raises KeyError when the vault has none for it, DataKeysBroken, and kmscore.vaultclient.answers' other errors."""
        reader = log_in(self._vault, login)
        try:
            document = reader.read_document(
                OF_ENVIRONMENTS.documents, f"{test_value.environment}/{test_value.document}"
            )
        except VaultRefused as refusal:
            if refusal.status != 404:
                raise
            document = {}
        return reader.unwrap_data_keys(
            OF_ENVIRONMENTS.transit, test_value.environment, [document[test_value.data_key]]
        )[0]


def read(document: dict[str, Any]) -> SealedSelfCheck:
    """Raises ValueError for what is not of the API's form."""
    try:
        return SealedSelfCheck(
            text(document["environment"]),
            text(document["data_key"]),
            number(document["document"]),
            number(document["revision"]),
            base64.b64decode(document["sealed"], validate=True),
            bytes.fromhex(document["challenge"]),
        )
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError("not a test value")
