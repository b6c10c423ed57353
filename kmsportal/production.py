"""What a real installation must not be. Every process and every command refuses to start, in words; nothing here is secret."""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from accounts.keyring import DEVELOPMENT_ROOT, is_public_half
from kmsportal import links

LEAST_CHARACTERS = 32  # of a key or a token
LEAST_OF_A_PASSWORD = 16  # that one process tells another
LEAST_DIFFERENT = 8  # characters of either
_THIS_MACHINE = {
    "localhost",
    "localhost4",
    "localhost6",
    "loopback",
    "ip6-localhost",
    "ip6-loopback",
}  # as /etc/hosts has it


def faults(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with production settings, by their names: sentences without a value."""
    found = (_addresses, _keys, _people, _database, _queue, _mail)
    return [sentence for look in found for sentence in look(settings)]


def _addresses(settings: Mapping[str, Any]) -> Iterator[str]:
    """The embedded stack runs under one user id: a demo, not a boundary between its parts (docs/threat-model.md)."""
    for name in ("VAULT_ADDR", "VAULT_PUBLIC_ADDR", "PORTAL_URL"):
        if urlsplit(settings[name]).scheme != "https":
            yield f"KMS_{name} must be an https address in production."
    for name in ("VAULT_ADDR", "VAULT_PUBLIC_ADDR"):
        if _is_this_machine(urlsplit(settings[name]).hostname or ""):
            yield f"KMS_{name} is this machine: the embedded vault is for the demo only."
    if not settings["ALLOWED_HOSTS"] or any("*" in host or host.startswith(".") for host in settings["ALLOWED_HOSTS"]):
        yield "KMS_ALLOWED_HOSTS must name the hosts in full, without a *."
    if not all(origin.startswith("https://") for origin in settings["CSRF_TRUSTED_ORIGINS"]):
        yield "KMS_TRUSTED_ORIGINS must be https addresses in production."
    if settings.get("SECURE_PROXY_SSL_HEADER") and settings["ALLAUTH_TRUSTED_PROXY_COUNT"] < 1:
        yield "KMS_BEHIND_TLS_PROXY believes a proxy: say in KMS_TRUSTED_PROXIES how many stand before the web server."


def _is_this_machine(host: str) -> bool:
    """In whatever spelling a socket takes: 127.1, 2130706433, [::ffff:127.0.0.1], 0.0.0.0, a name of /etc/hosts in any domain."""
    name = host
    with suppress(UnicodeError):
        name = host.encode("idna").decode()  # a letter in a circle is that letter to a socket
    name = name.rstrip(".").lower()
    with suppress(OSError):
        name = socket.inet_ntoa(socket.inet_aton(name))
    try:
        address = ip_address(name)
    except ValueError:
        return not _THIS_MACHINE.isdisjoint(name.split("."))
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def _is_weak(secret: str | bytes, least: int = LEAST_CHARACTERS) -> bool:
    """So short, or so few characters again and again, that somebody guesses it."""
    return len(secret) < least or len(set(secret)) < LEAST_DIFFERENT


def _strong(least: int) -> str:
    return f"must have at least {least} characters, {LEAST_DIFFERENT} of them different"


def _keys(settings: Mapping[str, Any]) -> Iterator[str]:
    keys = {name: settings[name] for name in ("SECRET_KEY", "ROW_KEY")}
    for name, key in keys.items():
        if _is_weak(key):
            yield f"KMS_{name} {_strong(LEAST_CHARACTERS)}."
    if len({key if isinstance(key, bytes) else key.encode() for key in keys.values()}) < len(keys):
        yield "KMS_SECRET_KEY and KMS_ROW_KEY must differ."
    root = settings["PORTAL_ROOT"]
    if not re.fullmatch("[0-9a-f]{64}", root) or not is_public_half(bytes.fromhex(root)):
        yield "KMS_PORTAL_ROOT must be the 64 characters of the file portal-root that install_vault made."
    if root == DEVELOPMENT_ROOT.hex():
        yield "KMS_PORTAL_ROOT is the one of development, whose private half everybody has."
    if settings["METRICS_TOKEN"] and _is_weak(settings["METRICS_TOKEN"]):
        yield f"KMS_METRICS_TOKEN {_strong(LEAST_CHARACTERS)}, or not be set."


def _people(settings: Mapping[str, Any]) -> Iterator[str]:
    if not settings["MFA_REQUIRED"]:
        yield "KMS_MFA_REQUIRED: the second factor can be optional in the demo only."


def _database(settings: Mapping[str, Any]) -> Iterator[str]:
    database = settings["DATABASES"]["default"]
    if not database["ENGINE"].endswith("postgresql"):
        yield "KMS_DATABASE_URL: production needs PostgreSQL."
        return
    if not links.is_kept(database):
        yield "KMS_DATABASE_URL must name a host and end with ?sslmode=verify-full&sslrootcert=system (or =FILE)."
    if database["PASSWORD"] and _is_weak(database["PASSWORD"], LEAST_OF_A_PASSWORD):
        yield f"KMS_DATABASE_URL: a password {_strong(LEAST_OF_A_PASSWORD)}, or not be used."
    if found := links.libpq_variables():
        yield f"KMS_DATABASE_URL alone says how to reach the database: unset {', '.join(sorted(found))}."


def _queue(settings: Mapping[str, Any]) -> Iterator[str]:
    address = urlsplit(settings["REDIS_URL"])
    if address.scheme != "rediss":
        yield "KMS_REDIS_URL must be a rediss address: the link to Redis is encrypted in production."
    if _is_weak(unquote(address.password or ""), LEAST_OF_A_PASSWORD):
        yield f"KMS_REDIS_URL needs a password: it {_strong(LEAST_OF_A_PASSWORD)}, else whoever reaches Redis writes to the queue."


def _mail(settings: Mapping[str, Any]) -> Iterator[str]:
    """Printed or written to a file, a link that resets a password is there for whoever reads logs."""
    if settings["EMAIL_BACKEND"] != "kmsportal.mail.EmailBackend":
        yield "KMS_EMAIL_URL: production needs a mail server, for links that reset passwords."
    elif not (settings["EMAIL_USE_TLS"] or settings["EMAIL_USE_SSL"]):
        yield "KMS_EMAIL_URL must be smtp+tls or smtp+ssl: such links are not sent in the clear."
