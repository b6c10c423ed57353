"""How the last contact went: for `status`, and for a report the portal has not got yet. No secret, nothing decides by it.

Written without fsync: losing it costs one repeated report.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kmsruntime.disk.home import Home, read_as, write_document
from kmsruntime.errors import RuntimeProblem

OK = "ok"


@dataclass(frozen=True, slots=True)
class State:
    """verdict: ``ok`` or the code of what is wrong, since `since`. contact: when the portal last answered.

    reported: whether the portal knows this verdict. vault_checked: when the vault's clock was last compared with the end of
    the credentials. self_checked: when the portal's test value was last asked for. Times are this machine's clock in seconds
    since 1970, 0 for never; they are shown, and hints at most.
    store: the one this was told of, see `kmsruntime.status.report`; another one is news, whichever run sealed it.
    preflight: the steps {step, state, code, detail} of the customer's vault looked at last. token: facts about its token.
    """

    verdict: str = ""
    sentence: str = ""
    since: int = 0
    contact: int = 0
    reported: bool = True
    vault_checked: int = 0
    self_checked: int = 0
    store: str = ""
    preflight: list[dict[str, str]] = field(default_factory=list)
    token: dict[str, Any] | None = None


def read_state(home: Home) -> State:
    """A damaged or missing file is an empty state."""
    found = None
    with suppress(RuntimeProblem):
        found = read_as(State, home.state)
    return found or State()


def write_state(home: Home, state: State) -> None:
    """Best effort: what is wrong with the disk is told by the writes that matter."""
    with suppress(RuntimeProblem):
        write_document(home.state, asdict(state), synced=False)


def judged(state: State, verdict: str, sentence: str, at: int) -> State:
    """The state with another verdict; `since` and `reported` only change when the verdict does."""
    if (state.verdict, state.sentence) == (verdict, sentence):
        return state
    since = state.since if state.verdict == verdict else at
    return replace(state, verdict=verdict, sentence=sentence, since=since, reported=False)
