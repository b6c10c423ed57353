"""The Atom's KMS settings on this container: fetched, kept as they were delivered (sealed for the Atom), opened in memory.

Two answers of the portal are kept at most: the one the store is sealed for and the newest. Settings name their properties
file by revision and data key, and a revision below any that was ever taken is refused, so the portal's database can neither
swap nor roll back what a store is sealed with. With the portal down what is kept is used.
"""

from __future__ import annotations

import binascii
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kmscore.byov.customer import FILE_PATH, SETTINGS_PATH, CustomerVault, CustomerVaultBroken, decode_customer_vault
from kmscore.sealed.envelope import SealBroken, open_sealed
from kmscore.sealed.kms_settings import KmsDocument, KmsDocumentBroken, decode_kms_document, settings_place
from kmscore.vaultclient.answers import DataKeysBroken, VaultRefused
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import OF_ATOMS
from kmsruntime.disk import credentials, files
from kmsruntime.disk.credentials import AtomCredentials
from kmsruntime.disk.home import Home, read_document, write_document
from kmsruntime.disk.typed import built
from kmsruntime.errors import PortalUnavailable, RuntimeProblem, SettingsRefused, StoreDamaged
from kmsruntime.remote.hosted_vault import log_in_as_atom, vault_errors
from kmsruntime.remote.portal import Portal

FORMAT: Final = 1
NEVER_SAVED: Final = 1  # the revision of settings nobody saved: hosted mode
LOWER: Final = "settings_lower"


@dataclass(frozen=True, slots=True)
class OpenedSettings:
    """Settings and the properties file that goes with them; no file in hosted mode, where it is not needed."""

    document: KmsDocument
    vault: CustomerVault | None = field(repr=False)

    @property
    def wrapped(self) -> bool:
        return self.document.wrapped


@dataclass(frozen=True, slots=True)
class _Kept:
    """kms-settings.json. announced: the revision the portal named last, 0 when that is not known here.

    answers: as delivered, by revision; each opened once before it was kept.
    """

    announced: int = 0
    answers: dict[int, dict[str, Any]] = field(default_factory=dict, repr=False)


class SettingsCache:
    """Settings of one directory. What was opened stays in memory for as long as this object lives."""

    def __init__(self, home: Home, vault: Vault, portal: Portal) -> None:
        self._home, self._vault, self._portal = home, vault, portal
        self._kept = _Kept()
        self._signature: object = ""
        self._opened: dict[int, OpenedSettings] = {}

    # -- which ones ------------------------------------------------------------------------------------------------

    def wanted(self, current: int) -> int:
        """The newest revision the portal named; `current` is the store's, and stands when neither was ever saved."""
        announced = self._read().announced or current
        return current if max(announced, current) <= NEVER_SAVED else announced

    def announce(self, revision: int, current: int) -> None:
        """Remember durably which revision the portal names: after a crash it says so no more (304)."""
        kept = self._read()
        if revision != kept.announced and max(revision, current, kept.announced) > NEVER_SAVED:
            self._write(replace(kept, announced=revision))

    def is_lower(self, revision: int, current: int) -> bool:
        """Whether newer settings than this revision were ever taken here."""
        return revision < max((current, *self._read().answers))

    def settle(self, revision: int) -> None:
        """The store is sealed for this revision now; others are needed no more."""
        self._keep_only({revision})

    def keep(self, current: int) -> None:
        """Fetch what the store is sealed for once more when it got lost, while the portal still has it. Best effort."""
        if current > NEVER_SAVED and current not in self._read().answers:
            with suppress(RuntimeProblem):  # who needs it meets the same trouble and says it
                self.newest(current)

    def _forget_above(self, revision: int, current: int) -> None:
        """After an announced restore: newer settings than this revision are from a future that did not happen.

        Those of the store in use stay until it is switched: without them a wrapped one opens no more.
        """
        self._keep_only({number for number in self._read().answers if number <= revision} | {current})

    def _keep_only(self, numbers: set[int]) -> None:
        kept = self._read()
        answers = {number: answer for number, answer in kept.answers.items() if number in numbers}
        self._opened = {number: one for number, one in self._opened.items() if number in numbers}
        if answers != kept.answers:
            self._write(replace(kept, answers=answers))

    def latest(self, current: int) -> int:
        """The newest settings there are: the portal's, or with the portal down what is kept. Raises as `newest`."""
        try:
            return self.newest(current)
        except PortalUnavailable:
            return max((current, *self._read().answers))

    # -- opening ---------------------------------------------------------------------------------------------------

    def fetch(self, wanted: int, current: int, *, accept_restore: bool = False) -> None:
        """See that the announced settings are kept; as `newest` when they are not, and `wanted` may be others then."""
        if wanted not in self._read().answers or self.is_lower(wanted, current):
            self.newest(current, accept_restore=accept_restore)

    def newest(self, current: int, *, accept_restore: bool = False) -> int:
        """Ask the portal for its newest settings, open and keep them. Returns their revision.

        Whatever was announced counts no more: nobody vouches for a number that came without settings. current: of the store
        in use. Only for who holds the lock.
        Raises SettingsRefused, for settings older than those taken here unless a restore is accepted, the portal's and the
        hosted vault's errors.
        """
        atom, answer = self._asked()
        revision = _revision(answer)
        if self.is_lower(revision, current):
            if not accept_restore:
                raise lower()
            self._forget_above(revision, current)
        if revision not in self._read().answers:
            self._opened[revision] = self._open(atom, answer)
        self._take(revision, current, answer)
        return revision

    def _asked(self) -> tuple[AtomCredentials, dict[str, Any]]:
        atom = credentials.read_atom(self._home)
        return atom, self._portal.get("settings", atom.settings_token).document

    def _take(self, revision: int, current: int, answer: dict[str, Any]) -> None:
        kept = self._read()
        if max(revision, current, kept.announced) > NEVER_SAVED:  # where nobody ever saved any there is no file
            self._write(_Kept(revision, {revision: answer} | kept.answers))

    def open(self, revision: int) -> OpenedSettings:
        """Settings that are kept, opened with the Atom's login at the hosted vault, once; fetched again when they got lost.

        Writes nothing: `get` and `exec` open a store beside a run that changes it.
        Raises SettingsRefused, the hosted vault's errors, the portal's when nothing is kept.
        """
        if revision not in self._opened:
            self._opened[revision] = self._open_kept(revision)
        return self._opened[revision]

    def _open_kept(self, revision: int) -> OpenedSettings:
        answer = self._read().answers.get(revision)
        if answer is not None:
            return self._open(credentials.read_atom(self._home), answer)
        if revision <= NEVER_SAVED:
            return _hosted(revision)
        atom, answer = self._asked()
        if _revision(answer) == revision:
            return self._open(atom, answer)
        if _revision(answer) < revision:
            raise lower()
        raise SettingsRefused(
            "settings_missing",
            f"{self._home.settings} lacks the settings the store is sealed for: restore it, or enrol this container again.",
        )

    def _open(self, atom: AtomCredentials, answer: dict[str, Any]) -> OpenedSettings:
        revision = _revision(answer)
        if (answer.get("account"), answer.get("atom")) != (atom.account, atom.atom):
            raise SettingsRefused(
                "settings_foreign", "The portal answered with another Atom's KMS settings; they were not taken."
            )
        if answer.get("settings") is None:
            if revision > NEVER_SAVED:
                raise _unreadable()
            return _hosted(revision)
        keys = _DataKeys(self._vault, atom)
        document = _document(atom, answer, keys)
        if document.mode == "hosted":
            return OpenedSettings(document, None)
        return OpenedSettings(document, _file(atom, answer, document, keys))

    # -- on disk ---------------------------------------------------------------------------------------------------

    def _read(self) -> _Kept:
        """What is kept, read again only when the file was replaced. Raises StoreDamaged, StorageFailed."""
        signature = files.signature(self._home.settings)
        if signature != self._signature:
            before, self._kept, self._signature = self._kept, self._decoded(), signature
            for number, answer in self._kept.answers.items():
                if before.answers.get(number) != answer:  # another run took these, perhaps after a restore
                    self._opened.pop(number, None)
        return self._kept

    def _decoded(self) -> _Kept:
        with suppress(StoreDamaged, KeyError, TypeError, ValueError, AttributeError):
            document = read_document(self._home.settings)
            if document is None:
                return _Kept()
            answers = {int(number): one for number, one in document["answers"].items()}
            return built(_Kept, {"announced": document["announced"], "answers": answers})
        raise StoreDamaged(
            "file_damaged",
            f"{self._home.settings} is damaged: remove it, and the portal is asked for the settings again.",
        )

    def _write(self, kept: _Kept) -> None:
        answers = {str(number): answer for number, answer in kept.answers.items()}
        write_document(self._home.settings, {"announced": kept.announced, "answers": answers})
        self._kept, self._signature = kept, files.signature(self._home.settings)


class _DataKeys:
    """The data keys of one answer, which settings and file often share. Raises SettingsRefused, the vault's errors."""

    def __init__(self, vault: Vault, atom: AtomCredentials) -> None:
        self._vault, self._atom = vault, atom
        self._opened: dict[str, bytes] = {}
        self._reader: Vault | None = None

    def get(self, data_key: str, document: int) -> bytes:
        if data_key not in self._opened:
            with vault_errors():
                self._opened[data_key] = self._fetched(data_key, document)
        return self._opened[data_key]

    def _fetched(self, data_key: str, document: int) -> bytes:
        atom = self._atom.atom
        reader = self._reader = self._reader or log_in_as_atom(self._vault, self._atom)
        wrapped = ""
        try:
            wrapped = reader.read_document(OF_ATOMS.documents, f"{atom}/{document}").get(data_key, "")
        except VaultRefused as refusal:
            if refusal.status != 404:
                raise
        with suppress(DataKeysBroken):
            if wrapped:
                return reader.unwrap_data_keys(OF_ATOMS.transit, atom, [wrapped])[0]
        raise SettingsRefused(
            "settings_key_missing", "The hosted vault has no usable key for these KMS settings: save them again."
        )


def lower() -> SettingsRefused:
    return SettingsRefused(
        LOWER,
        "The portal names older KMS settings than this container has taken. If its operator announced a restore, run "
        "kms-runtime sync --accept-restore.",
    )


def _hosted(revision: int) -> OpenedSettings:
    return OpenedSettings(KmsDocument(revision, "hosted", False, None), None)


def _document(atom: AtomCredentials, answer: dict[str, Any], keys: _DataKeys) -> KmsDocument:
    revision = _revision(answer)
    with suppress(KmsDocumentBroken):
        found = decode_kms_document(_unsealed(atom, answer["settings"], SETTINGS_PATH, revision, keys))
        if found.revision == revision:
            return found
    raise _broken()


def _file(atom: AtomCredentials, answer: dict[str, Any], document: KmsDocument, keys: _DataKeys) -> CustomerVault:
    row, named = answer.get("file"), document.file
    assert named is not None
    if not isinstance(row, dict) or (row.get("revision"), row.get("data_key")) != (named.revision, named.data_key):
        raise SettingsRefused(
            "file_swapped", "The properties file is not the one these KMS settings name; nothing was taken."
        )
    with suppress(CustomerVaultBroken):
        return decode_customer_vault(_unsealed(atom, row, FILE_PATH, named.revision, keys))
    raise _broken()


def _unsealed(
    atom: AtomCredentials, row: dict[str, Any], path: tuple[str, ...], revision: int, keys: _DataKeys
) -> bytes:
    try:
        data_key, document = str(uuid.UUID(row["data_key"])), row["document"]
        sealed = binascii.a2b_base64(row["sealed"], strict_mode=True)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _unreadable() from None
    if type(document) is not int:
        raise _unreadable()
    key = keys.get(data_key, document)
    with suppress(SealBroken):
        return open_sealed(key, sealed, settings_place(atom.account, atom.atom, path, revision, data_key))
    raise _broken()


def _revision(answer: dict[str, Any]) -> int:
    revision = answer.get("revision")
    if answer.get("format") != FORMAT or type(revision) is not int or revision < 0:
        raise _unreadable()
    return revision


def _broken() -> SettingsRefused:
    return SettingsRefused(
        "settings_broken",
        "The KMS settings the portal delivered were tampered with or damaged; they were not taken. Tell its operator.",
    )


def _unreadable() -> SettingsRefused:
    return SettingsRefused(
        "answer_invalid", "The portal's KMS settings could not be read; update kms-runtime or the portal."
    )
