"""Tells the portal which key protects what this container holds, and what is wrong; keeps the same for `status`."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import replace

from runtime import VERSION, credentials
from runtime.errors import RuntimeProblem, StoreDamaged
from runtime.home import Home
from runtime.portal import Portal
from runtime.state import judged, read_state, write_state
from runtime.store import Header, Store
from runtime.storefile import StoreFile

_PORTAL_KINDS = ("portal_unavailable", "portal_misconfigured")


class Telling:
    """Keeps the verdict of each sync and reports it unless the portal knows it; a report that fails goes with the next."""

    def __init__(self, home: Home, portal: Portal, file: StoreFile) -> None:
        self._home, self._portal, self._file = home, portal, file

    def went_well(self, verdict: str, sentence: str, *, news: bool) -> None:
        """news: the store was replaced, so the portal shows something old."""
        self._tell(verdict, sentence, reachable=True, news=news)

    def failed(self, problem: RuntimeProblem) -> None:
        self._tell(problem.code, problem.sentence, reachable=problem.kind not in _PORTAL_KINDS, news=False)

    def _tell(self, verdict: str, sentence: str, *, reachable: bool, news: bool) -> None:
        at = int(time.time())
        state = judged(read_state(self._home), verdict, sentence, at)
        if news:
            state = replace(state, reported=False)
        if reachable:
            state = replace(state, contact=at)
            if not state.reported:
                state = replace(state, reported=self._report(verdict, sentence))
        write_state(self._home, state)

    def _report(self, verdict: str, sentence: str) -> bool:
        with suppress(RuntimeProblem):
            token = credentials.read_environment(self._home).sync_token
            store = self._store()
            self._portal.post("report", token, report_of(store.header, store.index.sealed, verdict, sentence))
            return True
        return False

    def _store(self) -> Store:
        atom = credentials.read_atom(self._home)
        nothing = Store(Header(atom.account, atom.atom))
        with suppress(StoreDamaged):
            return self._file.read() or nothing
        return nothing


def report_of(header: Header, values: int, verdict: str, sentence: str) -> dict[str, object]:
    """The body of a report. values: how many encrypted values the container holds."""
    return {
        "source": header.source,
        "wrapped": False,
        "key_name": header.key_name,
        "key_version": header.key_version,
        "sealed_at": header.sealed_at or None,
        "environment": header.environment or None,
        "revision": header.revision,
        "values": values,
        "verdict": verdict,
        "sentence": sentence[:300],
        "attachment_revision": header.attachment_revision,
        "version": VERSION,
        "host_name": socket.gethostname(),
    }
