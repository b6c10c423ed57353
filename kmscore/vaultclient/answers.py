"""What a vault answers, read: four errors with our words, and values of the shape we expect.

Pure of Django. No exception here holds an answer's text: it could hold plaintexts of a batch.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from kmscore.refused import Refused
from kmscore.sealed.envelope import KEY_BYTES
from kmscore.vaultclient.http import HttpAnswer

_MOMENT_CHARACTERS: Final = 64  # more than any has: of a longer text as much as is needed to refuse it
ANSWER_BYTES: Final = 16 * 1024 * 1024  # more is no vault's answer; a document of 500 data keys has about 75 KB


class VaultError(Refused):
    """The vault did not do what was asked. status: of its answer, None when there was none."""

    def __init__(self, code: str, sentence: str, status: int | None = None) -> None:
        super().__init__(code, sentence)
        self.status = status


class VaultUnavailable(VaultError):
    """No answer, sealed, overloaded or failing: the same call may work later."""


class VaultRefused(VaultError):
    """The vault answered no (400, 403, 404, 405): the same call will be refused again."""


class VaultMisconfigured(VaultError):
    """What answers is not a vault we can talk to: a redirect, a web page, a wrong certificate."""


class DataKeysBroken(VaultError):
    """Some wrapped data keys of a batch did not unwrap; `positions` says which."""

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__("data_keys_broken", f"{len(positions)} wrapped data keys could not be unwrapped.")
        self.positions = tuple(positions)


@dataclass(frozen=True, slots=True)
class IssuedDataKey:
    """A data key as the vault made it: 32 bytes in the clear and the same, wrapped by version `key_version`."""

    plaintext: bytes = field(repr=False)
    wrapped: str = field(repr=False)
    key_version: int


@dataclass(frozen=True, slots=True)
class Login:
    """A vault token and the seconds it lives."""

    token: str = field(repr=False)
    seconds: int


@dataclass(frozen=True, slots=True)
class WrappingOrigin:
    """Where a wrapping token was made, when (the vault's clock, seconds since 1970), and the seconds it was given."""

    creation_path: str
    created: int
    seconds: int


def decoded(found: HttpAnswer) -> dict[str, Any]:
    """The JSON object of an answer of any status, {} when it is empty. Raises VaultMisconfigured for anything else."""
    if 300 <= found.status < 400:
        raise VaultMisconfigured(
            "vault_redirects", "The vault's address answers with a redirect; name the address it leads to."
        )
    if not found.content:
        return {}
    failure = VaultMisconfigured("not_a_vault", "What answers at the vault's address is not a vault.")
    if found.media_type != "application/json":
        if found.status >= 500:
            failure = VaultMisconfigured("not_a_vault", "The vault's address answers with an error page.", found.status)
        raise failure
    try:
        answer = orjson.loads(found.content)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise failure
    return answer


def refusal(status: int) -> VaultError:
    """The error an HTTP status of 300 and above stands for, with our words; not raised here."""
    if status == 503:
        return VaultUnavailable("vault_sealed", "The vault is sealed.", status)
    if status == 429:
        return VaultUnavailable("vault_busy", "The vault is at its rate limit.", status)
    if status >= 500:
        return VaultUnavailable("vault_failing", "The vault reports an internal error.", status)
    if status == 403:
        return VaultRefused(
            "permission_denied", "The vault refused: the token or its policy does not allow it.", status
        )
    if status == 404:
        return VaultRefused("not_found", "The vault has nothing at this path.", status)
    return VaultRefused("request_refused", "The vault refused the request.", status)


def member_of(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within an answer. Raises VaultMisconfigured (answer_invalid), as all of these do."""
    member = answer.get(name)
    if not isinstance(member, dict):
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return member


def text_of(data: Mapping[str, Any], name: str) -> str:
    """A text within an object, not an empty one: what was never said would be asked for again, without end."""
    found = data.get(name)
    if not isinstance(found, str) or not found:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return found


def token_of(data: Mapping[str, Any], name: str) -> str:
    """A token within an object: a text that can be sent in a header."""
    found = text_of(data, name)
    if not (found.isascii() and found.isprintable()):
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return found


_LAST_MOMENT: Final = 253_402_300_799  # of the year 9999, UTC: a later one cannot be shown


def moment_of(data: Mapping[str, Any], name: str) -> int:
    """A moment within an object, in seconds since 1970. One without a time zone would be read in this machine's."""
    try:
        found = datetime.fromisoformat(text_of(data, name)[:_MOMENT_CHARACTERS])
        if found.tzinfo is not None and 0 <= (seconds := int(found.timestamp())) <= _LAST_MOMENT:
            return seconds
    except (ValueError, OverflowError):
        pass
    raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")


def number_of(data: Mapping[str, Any], name: str) -> int:
    """A whole number within an object, of seconds, say: not below 0, and one that JSON keeps."""
    found = data.get(name)
    if type(found) is not int or not 0 <= found < 1 << 53:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return found


def list_of(data: Mapping[str, Any], name: str) -> list[Any]:
    """A list within an object."""
    found = data.get(name)
    if not isinstance(found, list):
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return found


def version_of(data: Mapping[str, Any], ciphertext: str) -> int:
    """Of the transit key: `key_version`, or what the ciphertext begins with: "vault:v3:…"."""
    found = data.get("key_version")
    begins = re.match(r"vault:v([0-9]{1,9}):", ciphertext)
    version = found if type(found) is int else int(begins[1]) if begins else 0
    if not 0 < version < 1 << 31:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return version


def data_key_of(data: Mapping[str, Any]) -> bytes:
    """The 32 bytes of `plaintext`."""
    key = bytes_of(text_of(data, "plaintext"))
    if len(key) != KEY_BYTES:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return key


def batch_key_of(result: Mapping[str, Any]) -> bytes | None:
    """The data key in one result of a batch; None for a ciphertext that did not open, or that held something else."""
    if result.get("error") or not result.get("plaintext"):
        return None
    key = bytes_of(text_of(result, "plaintext"))
    return key if len(key) == KEY_BYTES else None


def bytes_of(text: str) -> bytes:
    """Of base64 as the vault writes it."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        pass
    raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
