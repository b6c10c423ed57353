"""A process's keyring: the portal's key list, and the private halves of this process's own keys.

Pure. A process's directory holds `portal-keys` (the key list, public) and `signing-keys` (private, 0600): a line
``process base64`` for each key. A signature is the 8 bytes of its key's id and the 64 of Ed25519.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kmscore.durable import Owner, write_durably
from kmscore.private_file import NotPrivate, read_private
from kmscore.sealed.key_list import KeyList, KeyListBroken, ListedKey, key_id_of, read_key_list

LIST_FILE: Final = "portal-keys"
KEYS_FILE: Final = "signing-keys"
PROCESSES: Final = ("web", "worker", "watch", "shredder")  # those that sign
SIGNATURE_BYTES: Final = 72
_REMEMBERED: Final = 100_000  # verified signatures; 32 bytes each
SigningKey = tuple[str, Ed25519PrivateKey]  # whose, and the private half


class KeyringBroken(Exception):
    """A directory's files cannot be used. The text says which and why, without contents."""


class NoSigningKey(Exception):
    """This process may not sign as that one: it has no key of that process that is listed as signing."""


class Keyring:
    """Signs as the processes whose keys it holds, and tells whose signature something bears."""

    def __init__(self, listed: KeyList, private: Sequence[SigningKey]) -> None:
        self.listed = listed
        self._public = {
            key.key_id: (key.process, key.state, Ed25519PublicKey.from_public_bytes(key.public)) for key in listed.keys
        }
        self._signing: dict[str, tuple[bytes, Ed25519PrivateKey]] = {}
        for process, key in private:
            key_id = key_id_of(public_half(key))
            if self._public.get(key_id, ("", "", None))[:2] == (process, "signing"):
                self._signing[process] = (key_id, key)
        self._verified: dict[bytes, str] = {}

    @property
    def processes(self) -> tuple[str, ...]:
        """As whom this process can sign, itself first."""
        return tuple(self._signing)

    def sign(self, process: str, message: bytes) -> bytes:
        """SIGNATURE_BYTES. Raises NoSigningKey."""
        if process not in self._signing:
            raise NoSigningKey(f"Only {process} signs this, and this process has no key of {process} that is in use.")
        key_id, key = self._signing[process]
        return key_id + key.sign(message)

    def is_current(self, process: str, signature: bytes) -> bool:
        """Whether the key that signed is the one that this process signs with now."""
        return process in self._signing and signature[:8] == self._signing[process][0]

    def signer_of(self, message: bytes, signature: bytes, *, for_good: bool = False) -> str | None:
        """The process whose signature this is; None for nobody's. for_good: of what nobody may change, dead keys' too.

        What was verified once is remembered by its hash: one check costs 0.14 ms, and a page has hundreds of rows.
        """
        if len(signature) != SIGNATURE_BYTES:
            return None
        known = hashlib.sha256(signature + message).digest()
        if known in self._verified:
            return self._verified[known]
        process, state, public = self._public.get(signature[:8], ("", "dead", None))
        if public is None or (state == "dead" and not for_good):
            return None
        try:
            public.verify(signature[8:], message)
        except InvalidSignature:
            return None
        if state != "dead":
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[known] = process
        return process


def public_half(key: Ed25519PrivateKey) -> bytes:
    """32 bytes."""
    return key.public_key().public_bytes_raw()


def is_public_half(public: bytes) -> bool:
    """Whether these 32 bytes are a point of the curve, and none of small order: the library takes those too, and under such a
    key whoever tries often enough has a signature without any private half."""
    p = 2**255 - 19
    y = int.from_bytes(public, "little") % 2**255
    square = (y * y - 1) * pow(-121665 * pow(121666, -1, p) * y * y + 1, -1, p) % p  # of the point's other coordinate
    return len(public) == 32 and y < p and pow(square, (p - 1) // 2, p) == 1 and not _is_signed_by_nobody(public)


def _is_signed_by_nobody(public: bytes) -> bool:
    """The signature of nought holds for every message whose hash the point's order, at most 8, divides."""
    key, nought = Ed25519PublicKey.from_public_bytes(public), bytes([1]) + bytes(63)
    for number in range(256):
        with suppress(InvalidSignature):
            key.verify(nought, bytes([number]))
            return True
    return False


def new_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


# -- a process's directory ----------------------------------------------------------------------------------------------


def read_keyring(directories: Sequence[Path], root_public: bytes) -> Keyring:
    """Of the first directory the key list, of all of them the keys. Raises KeyringBroken."""
    private = [key for directory in directories for key in read_signing_keys(directory / KEYS_FILE)]
    path = directories[0] / LIST_FILE
    try:
        return Keyring(read_key_list(root_public, path.read_text()), private)
    except (KeyListBroken, UnicodeDecodeError) as problem:
        raise KeyringBroken(f"{path} cannot be used: {problem}") from None
    except OSError as error:
        raise KeyringBroken(f"{path} cannot be read: {error.strerror}.") from None


def read_signing_keys(path: Path) -> list[SigningKey]:
    """The keys of a file, oldest first; none when there is no such file. Raises KeyringBroken."""
    try:
        return [_signing_key(line) for line in read_private(path).decode().splitlines()]
    except NotPrivate as problem:
        mend = "; make it mode 0600 and change its keys" if problem.open_to_others else ""
        raise KeyringBroken(f"{path} {problem}{mend}.") from None
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyringBroken(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, binascii.Error):
        raise KeyringBroken(f"{path} is not a file of signing keys.") from None


def _signing_key(line: str) -> SigningKey:
    process, encoded = line.split(" ")
    return process, Ed25519PrivateKey.from_private_bytes(base64.b64decode(encoded, validate=True))


def write_signing_keys(path: Path, keys: Sequence[SigningKey], *, owner: Owner | None = None) -> None:
    """Durably, 0600. Raises OSError."""
    lines = (f"{process} {base64.b64encode(key.private_bytes_raw()).decode()}\n" for process, key in keys)
    write_durably(path, "".join(lines).encode(), owner=owner)


# -- development --------------------------------------------------------------------------------------------------------


def development_key(process: str) -> Ed25519PrivateKey:
    """The same on every machine, known to everybody, and worth nothing; production takes no key list under such a root."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"for development only: " + process.encode()).digest())


def development_list() -> KeyList:
    keys = (ListedKey(process, public_half(development_key(process)), "signing") for process in PROCESSES)
    return KeyList(1, 0, 0, tuple(keys))


DEVELOPMENT_ROOT: Final = public_half(development_key("root"))
