"""`status`: one screen, or JSON. What, since when, which key, which revision, how old, what is wrong and what to do.

Talks to nobody: it reads what this container has. Values are never shown; names only with --json. A store with a wrapped
encryption key stays closed: only the customer's vault opens it, so its header is all there is to show.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from typing import Any

from kmscore.byov.token import Forecast, sentence_of
from kmscore.byov.verdicts import Step, explain
from kmscore.wording import ago, plural
from kmsruntime.disk import credentials
from kmsruntime.disk.home import Home
from kmsruntime.disk.journal import read_journal
from kmsruntime.disk.state import OK, State, read_state
from kmsruntime.disk.typed import built
from kmsruntime.environment import label
from kmsruntime.errors import NotEnrolled, RuntimeProblem, printable
from kmsruntime.store.file import StoreFile
from kmsruntime.store.format import Header, Store

STALE_SECONDS = 600
PENDING = "switch_pending"  # kmsruntime/keysource/switch.py gives it; importing that would load what talks to vaults


def gather(home: Home, at: float | None = None) -> dict[str, Any]:
    """Everything `status` shows, as a JSON object (docs/runtime.md has its fields). Raises NotEnrolled, StoreDamaged.

    at: this machine's clock in seconds since 1970, now by default.
    """
    at = time.time() if at is None else at
    config, atom = home.read_config(), credentials.read_atom(home)
    state = read_state(home)
    header, store, problem = _store(home)
    header = header or Header(atom.account, atom.atom)
    code, sentence = _verdict(state, problem, home, at)
    return {
        "account": {"id": atom.account, "code": atom.account_code},
        "atom": {"id": atom.atom, "name": atom.atom_name, "type": atom.atom_type},
        "node": atom.node,
        "portal": config.portal,
        "vault": config.vault,
        "directory": str(home.directory),
        "environment": {"id": header.environment, "name": header.environment_name} if header.environment else None,
        "attached": _attached(home, header) or None,
        "revision": header.revision,
        "values": None if header.memory_only else store.index.sealed if store else 0,
        "missing": None if header.memory_only else store.index.missing if store else 0,
        "entries": [{"name": label(held), "form": held.form, "revision": held.revision} for held in store.held]
        if store
        else [],
        "source": header.source,
        "wrapped": header.memory_only,
        "key": _key(header),
        "settings_revision": header.settings_revision,
        "pending": _pending(state),
        "preflight": state.preflight,
        "token": state.token if header.source == "byov" else None,
        "sealed_at": header.sealed_at or None,
        "sealed_seconds": _age(header.sealed_at, at),
        "contact_seconds": at - state.contact if state.contact else None,
        "since_seconds": at - state.since if state.since else None,
        "verdict": code,
        "sentence": sentence,
    }


def _attached(home: Home, header: Header) -> str:
    with suppress(NotEnrolled):  # it lies in the store
        return credentials.read_environment(home).environment_name
    return header.environment_name


def _key(header: Header) -> dict[str, Any] | None:
    if not header.key_id:
        return None
    return {
        "source": header.source,
        "name": header.key_name,
        "version": header.key_version,
        "wrapped": header.memory_only,
    }


def _pending(state: State) -> dict[str, str] | None:
    """A switch to newer KMS settings that has not succeeded: the step that fails ("" when it is none of the preflight's)."""
    if state.verdict != PENDING:
        return None
    failed = next((step for step in state.preflight if step.get("state") == "failed"), {})
    return {"step": failed.get("step", ""), "code": failed.get("code", ""), "sentence": state.sentence}


def _store(home: Home) -> tuple[Header | None, Store | None, RuntimeProblem | None]:
    """Header and store as far as they can be read; the store of a wrapped encryption key is not even tried."""
    file, header = StoreFile(home, home.read_config()), None
    try:
        header = file.header()
        store = None if header is None or header.memory_only else file.read()
        if store is not None:
            store.open_all()
        return header, store, None
    except RuntimeProblem as problem:
        return None, None, problem


def _verdict(state: State, problem: RuntimeProblem | None, home: Home, at: float) -> tuple[str, str]:
    if problem is not None:
        return problem.code, problem.sentence
    if state.verdict not in ("", OK):
        return state.verdict, state.sentence
    if read_journal(home) is not None:
        return "handover_waiting", "A hand-over of vault credentials is not finished: run kms-runtime sync."
    if not state.verdict:
        return "never_synced", "Nothing was fetched yet: run kms-runtime run (or sync)."
    if not 0 <= at - state.contact < STALE_SECONDS:
        return (
            "contact_old",
            "The portal was not asked for a while, or the clock was changed: is kms-runtime run at work?",
        )
    return OK, ""


def screen(found: dict[str, Any], at: float | None = None) -> str:
    """The same for people. at: as for `gather`."""
    at = time.time() if at is None else at
    environment, key = found["environment"], found["key"]
    lines = [
        ("Atom", f"{found['atom']['name']} ({found['atom']['type'].capitalize()}) of {found['account']['code']}"),
        ("Environment", environment["name"] if environment else found["attached"] or "none"),
        ("Holds", _holds(found)),
        ("Sealed", f"{found['sealed_at'] or 'never'}{_ago(found['sealed_seconds'], ', ')}"),
        ("Key", f"{_source(key)}, key {key['name']} version {key['version']}" if key else "none"),
        *([("Token", _token(found["token"], key["name"] if key else "", at))] if found["token"] else []),
        ("Last contact", _ago(found["contact_seconds"]) or "never"),
        ("Portal", found["portal"]),
        ("Vault", found["vault"]),
        ("Directory", found["directory"]),
        ("State", _state(found)),
    ]
    if found["verdict"] != OK and found["since_seconds"] is not None:
        lines.append(("Since", _ago(found["since_seconds"])))
    return "\n".join(f"{name + ':':<14}{printable(text)}" for name, text in lines)


def _state(found: dict[str, Any]) -> str:
    """A container that follows the portal in everything is not well while programs get nothing for some of its names."""
    if found["verdict"] != OK:
        return f"{found['sentence']} [{found['verdict']}]"
    if found["missing"]:
        return f"up to date, with {plural(found['missing'], 'value')} missing: enter what is missing in the portal"
    return "all is well"


def _holds(found: dict[str, Any]) -> str:
    if found["wrapped"]:
        return f"revision {found['revision']}, under a wrapped encryption key: only your own vault opens it"
    return (
        f"{plural(found['values'], 'encrypted value')} in {len(found['entries'])} entries, revision {found['revision']}"
    )


def _source(key: dict[str, Any]) -> str:
    own = "your own vault, wrapped" if key["wrapped"] else "your own vault"
    return own if key["source"] == "byov" else "hosted vault"


def _token(facts: dict[str, Any], key: str, at: float) -> str:
    """The forecast; what is wrong with the token comes first, in the words of the panel."""
    problem = ""
    if facts.get("problem"):
        said = explain(Step("token", "failed", str(facts["problem"])), key=key)
        problem = f"{said.sentence} [{facts['problem']}] "
    with suppress(TypeError):
        told = built(Forecast, {one.name: facts.get(one.name) for one in fields(Forecast)})
        if told.because:
            return problem + sentence_of(told, at)
    return f"{problem}Its end is not known." if problem else "its end is not known"


def _age(moment: str, at: float) -> float | None:
    with suppress(ValueError, OverflowError):
        return at - datetime.fromisoformat(moment).timestamp()
    return None


def _ago(seconds: float | None, before: str = "") -> str:
    if seconds is None:
        return ""
    if seconds < -2:
        return f"{before}in the future: this machine's clock was set back"
    return before + ago(max(seconds, 0))
