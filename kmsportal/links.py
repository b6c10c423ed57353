"""The links to database, queue and mail server, from one address each. What the portal's processes and the programs of
PostgreSQL do with the database's is libpq's to say, so it is read by libpq's own parser.

All raise ImproperlyConfigured, without a part of the address, for it can hold a password.
"""

import os
import re
import ssl
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from kmsportal import reader

_DJANGO: Final = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
# Besides those, what may stand after the ? of the address. Not service and hostaddr: they lead elsewhere than the address says;
# not sslpassword: PostgreSQL's programs take it on a command line only; not sslkeylogfile.
_OPTIONS: Final = {
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "channel_binding", "require_auth"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    *("connect_timeout", "target_session_attrs", "application_name", "options"),
}
_SYSTEM_CERTIFICATES: Final = (  # Debian and its kin, Fedora and its kin, SUSE
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_MORE_VARIABLES: Final = ("PGSERVICEFILE", "PGSYSCONFDIR", "PGREQUIRESSL")  # that libpq reads and does not list
_MAIL_PORTS: Final = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
_NO_SERVER: Final = {"dummymail": "dummy", "consolemail": "console", "filemail": "filebased"}  # backends of Django's


# -- the database -------------------------------------------------------------------------------------------------------


def database(name: str, default: str | None) -> dict[str, Any]:
    """Django's settings of a database: `sqlite:///PATH` or `postgres://user:password@host:port/name?option=value`."""
    given = reader.text(name, default)
    scheme, _, rest = given.partition("://")
    if scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": unquote(rest.removeprefix("/")) or ":memory:"}
    if scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(f"{name} must be an address as postgres://user:password@host/name.")
    try:
        found = {key: str(value) for key, value in conninfo_to_dict(f"postgresql://{rest}").items()}
    except psycopg.Error:
        found = {}
    if not _is_plain(found):
        raise ImproperlyConfigured(
            f"{name} must be an address as postgres://user:password@host:port/name, with / @ : ? % of a password as %2F and so on."
        )
    if more := found.keys() - _DJANGO.keys() - _OPTIONS:
        raise ImproperlyConfigured(f"{name} must not have {', '.join(sorted(more))}.")
    if found.get("sslrootcert") == "system":
        found |= {"sslrootcert": _system_certificates(name), "sslmode": found.get("sslmode", "verify-full")}
    reader.checked_certificates(f"{name}: sslrootcert", found.get("sslrootcert", ""))
    own = {django: found.pop(word, "") for word, django in _DJANGO.items()}
    return {"ENGINE": "django.db.backends.postgresql", **own, "OPTIONS": found}


def _system_certificates(name: str) -> str:
    """The file behind libpq's word `system`. The libpq that comes with psycopg looks for it where its makers built it, and
    pg_dump's before version 16 takes the word for a file's name."""
    for file in (ssl.get_default_verify_paths().cafile, *_SYSTEM_CERTIFICATES):
        if file and os.path.exists(file):
            return file
    raise ImproperlyConfigured(f"{name}: sslrootcert must name a file: the system's certificates were not found.")


def _is_plain(found: Mapping[str, str]) -> bool:
    """A password with a / of its own ends the host's part early; what follows must not pass for a port or a name."""
    ports = found.get("port", "").split(",")
    return bool(re.fullmatch("[^/@:?]+", found.get("dbname", ""))) and all(_is_port(port) for port in ports if port)


def libpq(settings: Mapping[str, Any]) -> dict[str, str]:
    """What libpq is told for Django's settings of a PostgreSQL database, by libpq's words; the password included."""
    own = {word: settings.get(django) for word, django in _DJANGO.items()}
    return {word: str(value) for word, value in {**settings.get("OPTIONS", {}), **own}.items() if value}


def is_kept(settings: Mapping[str, Any]) -> bool:
    """Whether nobody on the way reads the link to a PostgreSQL database or answers it: by sockets in a directory, or by TLS with
    the host that is named. No host means another directory to each build of libpq; on a socket there is no TLS, and one that
    begins with @ is whose comes first."""
    told = libpq(settings)
    encrypted = told.get("sslmode") == "verify-full"
    hosts = told.get("host", "").split(",")
    return all(host.startswith("/") or (encrypted and host != "" and not host.startswith("@")) for host in hosts)


def libpq_variables() -> set[str]:
    """Those that are set of the variables that change what libpq does."""
    listed = {option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
    return (listed | set(_MORE_VARIABLES)) & os.environ.keys()


# -- the queue ----------------------------------------------------------------------------------------------------------


def queue(name: str, default: str | None) -> str:
    """The address of Redis."""
    given = reader.text(name, default)
    parts = _parts(given, ("redis", "rediss"))
    if (
        parts is None or not re.fullmatch("/?[0-9]{0,4}", parts.path) or ";" in given
    ):  # Celery takes a ; for a second address
        raise ImproperlyConfigured(
            f"{name} must be an address as rediss://:password@host:6379/0, with / @ : ; ? # % of a password as %2F and so on."
        )
    if parts.query:
        raise ImproperlyConfigured(
            f"{name} must have nothing after a ?: the certificate is always checked; name a CA of your own in KMS_REDIS_CA."
        )
    return given


# -- mail ---------------------------------------------------------------------------------------------------------------


def mail(name: str, default: str) -> dict[str, Any]:
    """Django's settings of a mail server: `smtp+tls://user:password@host:port`, or of what there is without one."""
    given = reader.text(name, default)
    scheme, _, rest = given.partition("://")
    if scheme in _NO_SERVER:
        backend = f"django.core.mail.backends.{_NO_SERVER[scheme]}.EmailBackend"
        return {"EMAIL_BACKEND": backend, "EMAIL_FILE_PATH": rest.removeprefix("/")}
    parts = _parts(given, _MAIL_PORTS)
    if parts is None or parts.query or parts.path.strip("/"):
        raise ImproperlyConfigured(
            f"{name} must be an address as smtp+tls://user:password@host:587, with / @ : ? # % of a password as %2F and so on."
        )
    return {
        "EMAIL_BACKEND": "kmsportal.mail.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or _MAIL_PORTS[scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": scheme == "smtp+tls",
        "EMAIL_USE_SSL": scheme == "smtp+ssl",
    }


def _parts(given: str, schemes: Collection[str]) -> SplitResult | None:
    """None when it is no address with a host."""
    try:
        parts = urlsplit(given)
        if parts.scheme in schemes and re.fullmatch(r"[\w.:-]+", parts.hostname or "") and not parts.fragment:
            return parts if parts.port is None or _is_port(str(parts.port)) else None
    except ValueError:
        pass
    return None


def _is_port(port: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,5}", port)) and 1 <= int(port) <= 65535
