"""The directory of one enrolled container: where each file is, and the addresses it was enrolled with.

config.json       addresses, CA files, where the at-rest key is      atom.json         what reaches the Atom's settings
handover.json     an enrolment or hand-over that is under way        environment.json  what reaches the values
store             the values, sealed                                 state.json        how the last contact went
kms-settings.json the Atom's KMS settings as they were delivered, sealed for it
at-rest-key.<id>  the store's data key (its place can be elsewhere)  lock, run.lock
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from kmscore.private_file import MOST_BYTES
from kmsruntime.disk import files
from kmsruntime.disk.typed import built
from kmsruntime.errors import NotEnrolled, RuntimeProblem, StorageFailed, StoreDamaged

FORMAT: Final = 1
DEFAULT: Final = Path("~/.kms-runtime")
LOCK_SECONDS: Final = 60.0
_OF_A_VOLUME: Final = "lost+found"  # what lies in a file system of its own that nobody has used yet
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Config:
    """Addresses and paths as the command line gave them at enrolment; "" where none was given.

    allow_vaults: addresses of customer's vaults that may get what is held on this container. allow_env: names of variables
    that a properties file may ask for, besides kmscore.byov.customer.ALLOWED_NAMES.
    """

    portal: str
    vault: str
    portal_ca: str = ""
    vault_ca: str = ""
    key_file: str = ""
    allow_vaults: tuple[str, ...] = ()
    allow_env: tuple[str, ...] = ()


class Home:
    """The directory, and the lock that lets one run at a time change it."""

    def __init__(self, directory: Path) -> None:
        """directory: as place.settled() found it; every later look goes there."""
        self.directory = directory
        self._daemons: tuple[int, int] | None = None  # the directory that this process runs in
        self.config = self.directory / "config.json"
        self.atom = self.directory / "atom.json"
        self.environment = self.directory / "environment.json"
        self.handover = self.directory / "handover.json"
        self.store = self.directory / "store"
        self.state = self.directory / "state.json"
        self.settings = self.directory / "kms-settings.json"

    def prepare(self) -> None:
        """Make the directory, mode 0700; one that is there must be empty or a container's. Raises StorageFailed."""
        if not self._is_free():
            raise StorageFailed(
                "directory_in_use", f"{self.directory} holds other files; choose a new or empty directory with --dir."
            )
        files.make_private_directory(self.directory)

    def _is_free(self) -> bool:
        """Nothing here, or a container's files, or what a first run leaves that was killed before it wrote its first."""
        try:
            names = {path.name for path in self.directory.iterdir()}
        except OSError:
            return True  # no such directory; what else is wrong is told when it is made
        with suppress(RuntimeProblem):
            self.read_config()
            return True
        names -= {"lock", _OF_A_VOLUME}
        return all(name.startswith(f".{self.config.name}.") for name in names)

    @contextmanager
    def lock(self, wait: float = LOCK_SECONDS) -> Iterator[None]:
        """Alone in the directory, for a change. Raises Busy, NotEnrolled without a directory, StorageFailed for another one
        than `only_daemon` began in."""
        found = self._identity()
        if found is None and self._daemons is None:
            raise not_enrolled(self)
        if self._daemons not in (None, found):
            raise StorageFailed(
                "directory_replaced",
                f"{self.directory} is another directory by now, or gone: put it back, or stop kms-runtime run and start it "
                "again.",
            )
        sentence = f"Another kms-runtime is changing {self.directory}; try again when it is done."
        with files.locked(self.directory / "lock", wait=wait, sentence=sentence):
            files.remove_leftovers(self.directory)
            yield

    @contextmanager
    def only_daemon(self) -> Iterator[None]:
        """The one `run` of this directory. Raises Busy, NotEnrolled without a directory."""
        self._daemons = self._identity()
        if self._daemons is None:
            raise not_enrolled(self)
        sentence = f"kms-runtime run is at work in {self.directory} already."
        with files.locked(self.directory / "run.lock", wait=0, sentence=sentence):
            yield

    def _identity(self) -> tuple[int, int] | None:
        """Of the directory, whatever name it has; None when there is none. Raises StorageFailed."""
        found = files.look(self.directory)
        return (found.st_dev, found.st_ino) if found is not None and stat.S_ISDIR(found.st_mode) else None

    def read_config(self) -> Config:
        """Raises NotEnrolled when there is none, StoreDamaged when it cannot be understood."""
        config = read_as(Config, self.config)
        if config is None:
            raise not_enrolled(self)
        paths = (config.portal_ca, config.vault_ca, config.key_file)
        if any("\0" in path or not (path == "" or path.startswith("/")) for path in paths):
            raise damaged(self.config)
        if config.key_file and not names_file(Path(config.key_file)):
            raise damaged(self.config)
        return config

    def write_config(self, config: Config) -> None:
        write_document(self.config, asdict(config))

    def key_path(self, config: Config) -> Path:
        """Where at-rest key files are; each file's name ends with its key's id."""
        return Path(config.key_file) if config.key_file else self.directory / "at-rest-key"


def names_file(path: Path) -> bool:
    """Whether a file of that name can have others beside it: / cannot, nor can what leads up."""
    return path.name not in ("", "..")


def read_document(path: Path) -> dict[str, Any] | None:
    """A JSON object of this format, None when there is no file. Raises StoreDamaged, StorageFailed."""
    content = files.read_private(path)
    if content is None:
        return None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise damaged(path)
    return document


def read_as(made: type[Made], path: Path) -> Made | None:
    """The dataclass that was written there, None when there is no file. Raises StoreDamaged, StorageFailed."""
    document = read_document(path)
    if document is None:
        return None
    del document["format"]
    try:
        return built(made, document)
    except TypeError:
        raise damaged(path) from None


def write_document(path: Path, document: dict[str, Any], *, synced: bool = True) -> None:
    """Write a JSON object with the format's number, durably unless a power cut may take it. Raises StorageFailed."""
    content = b""
    with suppress(TypeError):  # nested deeper than it can be written
        content = orjson.dumps({"format": FORMAT} | document)
    if not 0 < len(content) <= MOST_BYTES:  # what could not be read again
        raise StorageFailed(
            "storage_failed", f"What {path} would have to hold is too large or nested too deep to be kept."
        )
    files.write_durably(path, [content], synced=synced)


def damaged(path: Path) -> StoreDamaged:
    return StoreDamaged(
        "file_damaged",
        f"{path} is damaged: restore it, or empty the directory and enrol again with a new installer token.",
    )


def not_enrolled(home: Home) -> NotEnrolled:
    return NotEnrolled(
        "not_enrolled", f"{home.directory} holds no enrolment: run kms-runtime enrol, or name the directory with --dir."
    )
