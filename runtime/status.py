"""`status`: one screen, or JSON. What, since when, which key, which revision, how old, what is wrong and what to do.

Talks to nobody: it reads what this container has. Values are never shown; names only with --json.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from runtime import credentials
from runtime.errors import RuntimeProblem, printable
from runtime.giving import label
from runtime.home import Home
from runtime.journal import read_journal
from runtime.state import OK, State, read_state
from runtime.store import Header, Store
from runtime.storefile import StoreFile

STALE_SECONDS = 600


def gather(home: Home, at: float | None = None) -> dict[str, Any]:
    """Everything `status` shows, as a JSON object (docs/runtime.md has its fields). Raises NotEnrolled, StoreDamaged.

    at: this machine's clock in seconds since 1970, now by default.
    """
    at = time.time() if at is None else at
    config, atom, environment = home.read_config(), credentials.read_atom(home), credentials.read_environment(home)
    state = read_state(home)
    store, problem = _store(home)
    header = store.header if store else Header(atom.account, atom.atom)
    code, sentence = _verdict(state, problem, home, at)
    return {
        "account": {"id": atom.account, "code": atom.account_code},
        "atom": {"id": atom.atom, "name": atom.atom_name, "type": atom.atom_type},
        "node": atom.node,
        "portal": config.portal,
        "vault": config.vault,
        "directory": str(home.directory),
        "environment": {"id": header.environment, "name": header.environment_name} if header.environment else None,
        "attached": environment.environment_name or None,
        "revision": header.revision,
        "values": sum(held.form == "sealed" for held in store.held) if store else 0,
        "entries": [{"name": label(held), "form": held.form, "revision": held.revision} for held in store.held]
        if store
        else [],
        "key": {"source": header.source, "name": header.key_name, "version": header.key_version, "wrapped": False}
        if header.key_id
        else None,
        "sealed_at": header.sealed_at or None,
        "sealed_seconds": _age(header.sealed_at, at),
        "contact_seconds": at - state.contact if state.contact else None,
        "since_seconds": at - state.since if state.since else None,
        "verdict": code,
        "sentence": sentence,
    }


def _store(home: Home) -> tuple[Store | None, RuntimeProblem | None]:
    try:
        store = StoreFile(home, home.read_config()).read()
        if store is not None:
            store.open_all()
        return store, None
    except RuntimeProblem as problem:
        return None, problem


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


def screen(found: dict[str, Any]) -> str:
    """The same for people."""
    environment, key = found["environment"], found["key"]
    lines = [
        ("Atom", f"{found['atom']['name']} ({found['atom']['type'].capitalize()}) of {found['account']['code']}"),
        ("Environment", environment["name"] if environment else found["attached"] or "none"),
        (
            "Holds",
            f"{_count(found['values'], 'encrypted value')} in {len(found['entries'])} entries, revision {found['revision']}",
        ),
        ("Sealed", f"{found['sealed_at'] or 'never'}{_ago(found['sealed_seconds'], ', ')}"),
        ("Key", f"{key['source']} vault, key {key['name']} version {key['version']}" if key else "none"),
        ("Last contact", _ago(found["contact_seconds"]) or "never"),
        ("Portal", found["portal"]),
        ("Vault", found["vault"]),
        ("Directory", found["directory"]),
        ("State", "all is well" if found["verdict"] == OK else f"{found['sentence']} [{found['verdict']}]"),
    ]
    if found["verdict"] != OK and found["since_seconds"] is not None:
        lines.append(("Since", _ago(found["since_seconds"])))
    return "\n".join(f"{name + ':':<14}{printable(text)}" for name, text in lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _age(moment: str, at: float) -> float | None:
    return at - datetime.fromisoformat(moment).timestamp() if moment else None


def _ago(seconds: float | None, before: str = "") -> str:
    if seconds is None:
        return ""
    if seconds < -2:
        return f"{before}in the future: this machine's clock was set back"
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{before}{int(seconds // size)} {unit} ago"
    return f"{before}{max(int(seconds), 0)} seconds ago"
