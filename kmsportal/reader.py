"""Reads one setting: the variable of that name, or the file that <name>_FILE names. Nothing given is the same as "".

What cannot be used is one sentence with the setting's name and what it must be, never a part of what was given.
All raise ImproperlyConfigured; a default of None means that the setting has to be given.
"""

import math
import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from kmscore.byov.customer import EndpointRefused, endpoint_of
from kmscore.vaultclient.tls import TlsFileInvalid, client_context

_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def text(name: str, default: str | None = "") -> str:
    """Without the spaces and line ends around it."""
    given = _given(name).strip()
    if not given.isprintable():  # nor are bytes that are no UTF-8
        raise ImproperlyConfigured(f"{name} must be one line of text in UTF-8.")
    if not given and default is None:
        raise ImproperlyConfigured(f"Set {name} or {name}_FILE.")
    return given or default or ""


def _given(name: str) -> str:
    file = os.environ.get(f"{name}_FILE")
    if not file:
        return os.environ.get(name, "")
    try:
        return Path(file).read_text("utf-8")
    except UnicodeDecodeError:
        pass
    except OSError as error:
        named = f": {file}" if "/" in file else ""  # a secret in place of its file's name is not repeated
        raise ImproperlyConfigured(f"{name}_FILE{named} cannot be read: {error.strerror}.") from None
    raise ImproperlyConfigured(f"{name}_FILE must name a file with one line of text in UTF-8.")


def one_of(name: str, known: Collection[str], default: str = "", more: str = "") -> str:
    """more: what is said after the names."""
    given = text(name, default)
    if given not in known:
        *others, last = known
        raise ImproperlyConfigured(f"{name} must be {', '.join(others)} or {last}{more}.")
    return given


def number(name: str, default: int, least: int = 1, most: int = 1_000_000_000) -> int:
    """A whole number of the range."""
    given = text(name, str(default))
    if not re.fullmatch("[0-9]{1,10}", given) or not least <= int(given) <= most:
        raise ImproperlyConfigured(f"{name} must be a whole number from {least:,} to {most:,}.")
    return int(given)


def rate(name: str, default: float) -> float:
    """A number above 0."""
    given = math.nan
    with suppress(ValueError):
        given = float(text(name, str(default)))
    if not 0 < given < math.inf:
        raise ImproperlyConfigured(f"{name} must be a number above 0.")
    return given


def switch(name: str, default: bool) -> bool:
    given = text(name, "1" if default else "0").lower()
    if given not in (*_ON, *_OFF):
        raise ImproperlyConfigured(f"{name} must be 1 or 0.")
    return given in _ON


def words(name: str, default: Collection[str] = ()) -> list[str]:
    """Separated by commas."""
    return [word.strip() for word in text(name).split(",") if word.strip()] or list(default)


def origins(name: str) -> list[str]:
    given = words(name)
    if not all(re.fullmatch(r"https?://[\w.*:-]+", origin) for origin in given):
        raise ImproperlyConfigured(f"{name} must be addresses as https://host, separated by commas.")
    return given


def path(name: str, default: Path) -> Path:
    return Path(text(name, str(default)))


def directory(name: str, default: str | None) -> Path | None:
    """One that is there and that this process may write to; None when none has to be given, and none is."""
    given = text(name, default)
    if given and not (Path(given).is_dir() and os.access(given, os.W_OK | os.X_OK)):
        raise ImproperlyConfigured(f"{name} must name a directory that this process may write to.")
    return Path(given) if given else None


def address(name: str, default: str | None) -> str:
    """An http or https address; "" only as the default."""
    given = text(name, default)
    with suppress(EndpointRefused):
        if not given or endpoint_of(given):
            return given
    raise ImproperlyConfigured(f"{name} must be an address as https://host or https://host:port.")


def certificates(name: str) -> str | None:
    """The path of a file of certificates to trust; None for the system's own."""
    return checked_certificates(name, text(name)) or None


def checked_certificates(name: str, file: str) -> str:
    with suppress(TlsFileInvalid):
        if not file or client_context(file):
            return file
    raise ImproperlyConfigured(f"{name} must name a file of certificates (PEM) that can be read.")
