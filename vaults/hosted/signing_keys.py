"""The keys that the portal's processes sign with: made by the installer, listed under the root key, changed without a gap.

Pure. The signed key list lies in the vault (`authority/portal`, which the root token alone writes) and, the same bytes, in each
process's directory. The root key's private half is a file for the operator's safe: it is needed when the list changes, and
no process has it. A change of a key has three steps, so that everybody knows a key before something is signed with it, and
nothing is refused that an earlier one signed: `list_new`, `use_new`, and, when everything is signed anew, `end_old`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hvac import Client

from accounts.keyring import (
    KEYS_FILE,
    LIST_FILE,
    PROCESSES,
    new_key,
    public_half,
    read_signing_keys,
    write_signing_keys,
)
from kmscore.durable import write_durably
from kmscore.private_file import NotPrivate, read_private
from kmscore.sealed.key_list import KeyList, KeyListBroken, ListedKey, State, read_key_list, sign_key_list
from kmscore.vaultclient.answers import VaultRefused, member_of, text_of
from kmscore.vaultclient.mounts import AUTHORITY, KEY_LIST
from vaults.hosted.credentials import HELD, given_to

PUBLIC_FILE: Final = "portal-root"  # the root key's public half, in hexadecimal: KMS_PORTAL_ROOT of every process
PRIVATE_FILE: Final = "portal-root-key"
LISTED_BEFORE_USE: Final = 3600  # seconds: by then every process has read a list
_ROOT: Final = "root"


class KeysRefused(Exception):
    """The keys cannot be installed or changed like this. The text says why and how to go on."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to do with a process's keys: ``list_new``, ``use_new`` or ``end_old``; or with the listed key of an id, whosever file it
    is in: ``end_id``. at_once: without waiting an hour, for a key that somebody else may have."""

    process: str
    step: str
    at_once: bool = False
    key_id: str = ""  # of `end_id`, in hexadecimal


def install_keys(
    client: Client, directory: Path, root_file: Path, *, change: Change | None = None, restored: bool = False
) -> list[str]:
    """Make what is missing, change what is asked, write the list everywhere; lines for people.

    directory: has a directory for each of HELD. root_file: where the root key's private half is, or goes when there is none yet.
    restored: an older snapshot of the vault was put back; the list counts it. The client has a root-like token.
    Raises KeysRefused, KeyringBroken, VaultError, OSError.
    """
    found, version = _stored(client)
    known = [found] if found else []
    known += [text for text in (_read(directory / name / LIST_FILE) for name in HELD) if text]
    root, lines = _root(directory, root_file, first=not known)
    listed = _newest(known, (directory / PUBLIC_FILE).read_text())
    keys = _with_own(listed.keys, directory)
    if change is not None:
        keys = _CHANGES[change.step](change, keys, listed, directory)
    text = None
    if keys != listed.keys or restored:
        if root is None:
            raise KeysRefused(
                f"The key list changes, and {root_file} is not there: name the root key's file in --root-key."
            )
        listed = listed.followed_by(keys, int(time.time()), restores=listed.restores + restored)
        text = sign_key_list(root, listed)
        lines.append(f"Key list {listed.serial}:")
    lines += [f"{key.process} {key.key_id.hex()}: {key.state}" for key in listed.keys if key.state != "dead"]
    _write(client, directory, text or max(known, key=lambda one: _serial(one, directory)), found, version)
    return lines


def _stored(client: Client) -> tuple[str, int]:
    """The vault's list and its version, ("", 0) when it has none."""
    try:
        answer = client.secrets.kv.v2.read_secret_version(
            KEY_LIST, mount_point=AUTHORITY, raise_on_deleted_version=True
        )
    except VaultRefused as refusal:
        if refusal.status == 404:
            return "", 0
        raise
    data = member_of(answer, "data")
    return text_of(member_of(data, "data"), "keys"), int(member_of(data, "metadata")["version"])


def _read(path: Path) -> str:
    """A process's list, "" when it has none. Raises KeysRefused: it is the process's file, and may be anything."""
    try:
        return read_private(path, public=True).decode("ascii")
    except FileNotFoundError:
        return ""
    except (NotPrivate, UnicodeDecodeError, OSError) as problem:
        why = problem if isinstance(problem, NotPrivate) else "cannot be read"
        raise KeysRefused(f"{path} {why}: remove it, and start again.") from None


def _root(directory: Path, file: Path, *, first: bool) -> tuple[Ed25519PrivateKey | None, list[str]]:
    """The root key, if its file is there; made at the first installation, its public half beside the directories."""
    public = directory / PUBLIC_FILE
    held = read_signing_keys(file)
    lines = []
    if not held and first:
        if public.exists():
            raise KeysRefused(f"{public} is there, and no key list: name the root key's file in --root-key.")
        held = [(_ROOT, new_key())]
        write_signing_keys(file, held)
        lines.append(f"{file} is the portal's root key: keep it in a safe, and away from every process.")
    root = held[0][1] if held else None
    if root is not None and not public.exists():
        write_durably(public, public_half(root).hex().encode() + b"\n", owner=given_to(public))
    if not public.exists():
        raise KeysRefused(
            f"The portal has a key list, and {public} is not there: name the root key's file in --root-key."
        )
    if root is not None and public_half(root).hex() != public.read_text().strip():
        raise KeysRefused(f"{file} is not the root key of {public}.")
    lines.append(f"KMS_PORTAL_ROOT={public.read_text().strip()}")
    return root, lines


def _newest(known: Iterable[str], root_public: str) -> KeyList:
    try:
        lists = [read_key_list(bytes.fromhex(root_public), text) for text in known]
    except (KeyListBroken, ValueError) as problem:
        raise KeysRefused(f"A key list of this portal cannot be used: {problem}") from None
    return max(lists, key=lambda one: one.serial, default=KeyList(0, 0, 0, ()))


def _serial(text: str, directory: Path) -> int:
    return read_key_list(bytes.fromhex((directory / PUBLIC_FILE).read_text()), text).serial


def _with_own(keys: tuple[ListedKey, ...], directory: Path) -> tuple[ListedKey, ...]:
    """The list, with a key in use for each process of this directory: made when its file has none."""
    listed = {key.public: key for key in keys}
    for process in PROCESSES:
        path = directory / process / KEYS_FILE
        own = read_signing_keys(path)
        if not any(listed[half].state != "dead" for half in _halves(own) if half in listed):
            unlisted = [one for one in own if public_half(one[1]) not in listed]  # a run that broke off made it
            if not unlisted:
                unlisted = [(process, new_key())]
                write_signing_keys(path, [*own, *unlisted], owner=given_to(path))
            keys += (ListedKey(process, public_half(unlisted[-1][1]), "signing"),)
    return keys


def _halves(keys: Iterable[tuple[str, Ed25519PrivateKey]]) -> list[bytes]:
    return [public_half(key) for _, key in keys]


# -- changing a key ------------------------------------------------------------------------------------------------------


def _own(change: Change, keys: tuple[ListedKey, ...], directory: Path) -> list[ListedKey]:
    """This directory's listed keys of the process, oldest first."""
    halves = _halves(read_signing_keys(directory / change.process / KEYS_FILE))
    return [key for key in keys if key.public in halves]


def _list_new(change: Change, keys: tuple[ListedKey, ...], listed: KeyList, directory: Path) -> tuple[ListedKey, ...]:
    if any(key.state == "verifying" for key in _own(change, keys, directory)):
        raise KeysRefused(f"A change of {change.process}'s key is under way: finish that first.")
    path = directory / change.process / KEYS_FILE
    made = new_key()
    write_signing_keys(path, [*read_signing_keys(path), (change.process, made)], owner=given_to(path))
    return (*keys, ListedKey(change.process, public_half(made), "verifying"))


def _use_new(change: Change, keys: tuple[ListedKey, ...], listed: KeyList, directory: Path) -> tuple[ListedKey, ...]:
    own = _own(change, keys, directory)
    if not own or own[-1].state != "verifying":
        raise KeysRefused(f"No new key of {change.process} is listed: begin with --new-key {change.process}.")
    wait = listed.made_at + LISTED_BEFORE_USE - int(time.time())
    if wait > 0 and not change.at_once:
        raise KeysRefused(
            f"The list is young: in {wait // 60 + 1} min every process has read it. Use --at-once for a stolen key."
        )
    states: dict[bytes, State] = {key.public: "verifying" for key in own if key.state == "signing"}
    return _in_states(keys, states | {own[-1].public: "signing"})


def _end_old(change: Change, keys: tuple[ListedKey, ...], listed: KeyList, directory: Path) -> tuple[ListedKey, ...]:
    own = _own(change, keys, directory)
    old = [key for key in own if key.state == "verifying"]
    if not old or own[-1].state != "signing":
        raise KeysRefused(f"No earlier key of {change.process} is left to end.")
    return _in_states(keys, {key.public: "dead" for key in old})


def _end_id(change: Change, keys: tuple[ListedKey, ...], listed: KeyList, directory: Path) -> tuple[ListedKey, ...]:
    """Whether or not it is in a file here: who took a directory over may have put another key into it."""
    found = [key for key in keys if key.key_id.hex() == change.key_id and key.state != "dead"]
    if not found:
        raise KeysRefused(f"No key {change.key_id} is listed and in use.")
    return _in_states(keys, {key.public: "dead" for key in found})


def _in_states(keys: tuple[ListedKey, ...], states: dict[bytes, State]) -> tuple[ListedKey, ...]:
    return tuple(replace(key, state=states.get(key.public, key.state)) for key in keys)


_Step = Callable[[Change, tuple[ListedKey, ...], KeyList, Path], tuple[ListedKey, ...]]
_CHANGES: Final[dict[str, _Step]] = {
    "list_new": _list_new,
    "use_new": _use_new,
    "end_old": _end_old,
    "end_id": _end_id,
}


# -- writing the list -----------------------------------------------------------------------------------------------------


def _write(client: Client, directory: Path, text: str, found: str, version: int) -> None:
    """Into the vault first: an installer that was overtaken by another one is refused there, and wrote nothing."""
    if text != found:
        client.secrets.kv.v2.create_or_update_secret(KEY_LIST, {"keys": text}, cas=version, mount_point=AUTHORITY)
    for name in HELD:
        path = directory / name / LIST_FILE
        if _read(path) != text:
            write_durably(path, text.encode(), owner=given_to(path))
