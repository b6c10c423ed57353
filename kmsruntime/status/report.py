"""Tells the portal which key protects what this container holds, and what is wrong; keeps the same for `status`."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kmscore.byov.verdicts import Step, explain
from kmscore.vaultclient.answers import VaultError
from kmsruntime import VERSION
from kmsruntime.disk import credentials
from kmsruntime.disk.home import Home
from kmsruntime.disk.state import OK, State, judged, read_state, write_state
from kmsruntime.errors import RuntimeProblem, StoreDamaged, printable
from kmsruntime.keysource.switch import PreflightResult
from kmsruntime.keysource.token_session import LIVES
from kmsruntime.remote.portal import Portal
from kmsruntime.store.format import Header, Store
from kmsruntime.store.sealed_state import SealedState

_CLOSED = "Until that is mended get and exec give nothing, and no restart opens the store."
_PORTAL_KINDS = ("portal_unavailable", "portal_misconfigured")
_SENTENCE_CHARACTERS = 300
_TOKEN_FACTS = frozenset(
    [
        "ttl",
        "period",
        "ends",
        "because",
        "certain",
        "renews_every",
        "next_renewal",
        "looked_up_at",
        "renewed_at",
        "problem",
        "dropped",
    ]
)


class Reporter:
    """Keeps the verdict of each sync and reports it unless the portal knows it; a report that fails goes with the next.

    examined: the customer's vault looked at last; None when this run had no reason to, and what is known of it stands.
    hosted_trouble: what the hosted vault failed with when it was asked last, None when it did not.
    """

    def __init__(self, home: Home, portal: Portal, sealed_state: SealedState) -> None:
        self._home, self._portal, self._sealed_state = home, portal, sealed_state
        self.examined: PreflightResult | None = None
        self.hosted_trouble: VaultError | None = None
        self.token: dict[str, Any] | None = None
        self._last: tuple[str, str, bool] | None = None  # verdict, sentence, whether the portal answered
        self._is_token_known = False

    def went_well(self, verdict: str, sentence: str, *, news: bool) -> None:
        """news: the store was replaced, or the token's facts changed, so the portal shows something old."""
        self._last = (verdict, sentence, True)
        self._tell(*self._last, news=news)

    def failed(self, problem: RuntimeProblem) -> None:
        self._last = (problem.code, problem.sentence, problem.kind not in _PORTAL_KINDS)
        self._tell(*self._last, news=False)

    def shows_failed_step(self) -> bool:
        """Whether a step of the customer's vault is known to have failed."""
        return any(step.get("state") == "failed" for step in read_state(self._home).preflight)

    def set_token_facts(self, facts: dict[str, Any] | None) -> None:
        """What is known of the customer's token from now on; None in hosted mode, and after a switch."""
        self.token, self._is_token_known = facts, True

    def resend(self) -> None:
        """Report the same once more, with what is known of the token now."""
        if self._last is not None:
            self._tell(*self._last, news=True)

    def _beyond_this_process(self, verdict: str, sentence: str) -> tuple[str, str]:
        """All is well where the store is open; a wrapped one may open to nobody else any more, nor after a restart."""
        if verdict != OK or not self._sealed_state.is_memory_only():
            return verdict, sentence
        if self.hosted_trouble is not None:
            return self.hosted_trouble.code, f"Hosted vault: {self.hosted_trouble.sentence} {_CLOSED}"
        problem = str((self.token or {}).get("problem", ""))
        if problem in LIVES:
            return verdict, sentence
        said = explain(Step("token", "failed", problem), key="").sentence
        return problem, f"Your own vault: {said} {_CLOSED}"

    def _tell(self, verdict: str, sentence: str, reachable: bool, *, news: bool) -> None:
        at = int(time.time())
        verdict, sentence = self._beyond_this_process(verdict, sentence)
        state = judged(read_state(self._home), verdict, sentence, at)
        preflight = state.preflight if self.examined is None else _steps(self.examined)
        store = _name_of(self._sealed_state.header())  # a run that was killed has told nobody of the one it sealed
        if news or preflight != state.preflight or store != state.store:
            state = replace(state, reported=False)
        token = self.token if self._is_token_known else state.token  # a `sync` beside a daemon does not look at it
        state = replace(state, preflight=preflight, token=token, store=store)
        if reachable:
            state = replace(state, contact=at)
            if not state.reported:
                state = replace(state, reported=self._report(state))
        write_state(self._home, state)

    def _report(self, state: State) -> bool:
        with suppress(RuntimeProblem):
            if not self._sealed_state.is_open():
                self._report_closed(state)
                return True
            token = self._sealed_state.environment().sync_token
            store = self._store()
            body = report_of(store.header, store.index.sealed, state.verdict, state.sentence)
            self._portal.post("report", token, body | self._about_vault(state))
            return True
        return False

    def _report_closed(self, state: State) -> None:
        """The credential that reports lies in the store, which the customer's vault does not open: say that at least."""
        header = self._sealed_state.header()
        body = {
            "verdict": state.verdict,
            "sentence": state.sentence[:_SENTENCE_CHARACTERS],
            "settings_revision": header.settings_revision if header else 0,
            "preflight": state.preflight,
            "token": _known(state.token),
        }
        self._portal.post("settings/verdict", credentials.read_atom(self._home).settings_token, body)

    def _about_vault(self, state: State) -> dict[str, object]:
        return {
            "preflight": state.preflight,
            "token": _known(state.token),
            "variables": list(self.examined.missing)[:20] if self.examined else [],
        }

    def _store(self) -> Store:
        atom = credentials.read_atom(self._home)
        nothing = Store(Header(atom.account, atom.atom))
        with suppress(StoreDamaged):
            return self._sealed_state.store() or nothing
        return nothing


def report_of(header: Header, values: int, verdict: str, sentence: str) -> dict[str, object]:
    """The body of a report. values: how many encrypted values the container holds."""
    return {
        "source": header.source,
        "wrapped": header.memory_only,
        "key_name": header.key_name,
        "key_version": header.key_version,
        "sealed_at": header.sealed_at or None,
        "environment": header.environment or None,
        "revision": header.revision,
        "values": values,
        "verdict": verdict,
        "sentence": sentence[:_SENTENCE_CHARACTERS],
        "settings_revision": header.settings_revision,
        "rekey_revision": header.rekey_revision,
        "attachment_revision": header.attachment_revision,
        "version": VERSION,
        "host_name": printable(socket.gethostname()),  # bytes that are no text, too
    }


def _name_of(header: Header | None) -> str:
    """Tells one state of the store from another, empty ones included."""
    if header is None:
        return ""
    revisions = (header.settings_revision, header.attachment_revision, header.revision, header.rekey_revision)
    return " ".join(map(str, (header.key_id, *revisions)))


def _steps(examined: PreflightResult) -> list[dict[str, str]]:
    return [
        {"step": step.id, "state": step.state, "code": step.code, "detail": step.detail[:200]}
        for step in examined.steps
    ]


def _known(token: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the portal takes: the state on the disk may be a newer program's."""
    if token is None:
        return None
    return {name: value for name, value in token.items() if name in _TOKEN_FACTS and value is not None}
