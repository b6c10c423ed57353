"""TLS towards a vault: whom to trust, which client certificate to show, and why it failed.

Pure. Everything is explicit: PEM files by path, and the public authorities that certifi brings when no CA is named. Nothing
comes from the environment, which could name a file for the keys of every connection.
"""

from __future__ import annotations

import os
import ssl
import stat
import sys
from contextlib import suppress
from typing import Final

import certifi

TLS_SENTENCES: Final = {
    "tls_name": "The vault's certificate names another host.",
    "tls_ca": "The vault's certificate is not trusted here.",
    "tls_expired": "The vault's certificate is not valid at this time.",
    "tls_client_cert": "The vault wants a client certificate that it accepts.",
    "tls_failed": "TLS with the vault failed: it speaks another protocol or another version.",
}
_FILE_SENTENCES: Final = {
    "ca_invalid": "The CA file for the vault is not readable, over 16 MiB, or holds no certificates (PEM).",
    "cert_invalid": "The client certificate for the vault is not readable: PEM with certificate and key, and the key's password.",
}
_MOST_BYTES: Final = 16 * 1024 * 1024  # all public authorities together have a quarter of one
_VERIFY_CODES: Final = {62: "tls_name", 64: "tls_name", 9: "tls_expired", 10: "tls_expired"}  # OpenSSL: X509_V_ERR_…
_REFUSES_CERTIFICATE: Final = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


class TlsFileInvalid(ValueError):
    """A PEM file cannot be used; `code` says which: ca_invalid, cert_invalid."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code, self.sentence = code, _FILE_SENTENCES[code]


def client_context(ca: str = "", cert: str = "", cert_password: str = "") -> ssl.SSLContext:
    """A context that trusts the PEM file `ca`, and shows the certificate in the PEM file `cert` (with its key) if named.

    The password opens the key here and is not kept. Raises TlsFileInvalid.
    """
    code = "ca_invalid"
    with suppress(OSError, ValueError):  # ssl.SSLError is an OSError
        _refuse_odd(ca)
        context = _context()
        context.load_verify_locations(ca or certifi.where())
        if cert:
            code = "cert_invalid"
            _refuse_odd(cert)
            # A function: without one, OpenSSL would ask a terminal for the password of an encrypted key.
            context.load_cert_chain(cert, password=lambda: cert_password)
        return context
    raise TlsFileInvalid(code)


def _context() -> ssl.SSLContext:
    """As ssl.create_default_context makes it for a client, but it listens to SSLKEYLOGFILE, and takes a name from a subject."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # wants a certificate, and one of that host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    return context


def _refuse_odd(path: str) -> None:
    """What OpenSSL would read for ever, or for very long. Raises OSError, ValueError.

    A file of /proc is a regular one of no size, and some of these are never read to their end.
    """
    if path and (not stat.S_ISREG((found := os.stat(path)).st_mode) or not 0 < found.st_size <= _MOST_BYTES):
        raise ValueError


def tls_code(error: BaseException) -> str:
    """Why TLS failed, a key of TLS_SENTENCES. Looks through the exceptions that libraries put around ssl's."""
    found = _ssl_error(error, 8)
    if isinstance(found, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(found.verify_code, "tls_ca")
    reason = str(getattr(found, "reason", "") or "")
    # An alert is what the server sent us: about a certificate it can only mean ours.
    if "ALERT" in reason and any(part in reason for part in _REFUSES_CERTIFICATE):
        return "tls_client_cert"
    return "tls_failed"


def _ssl_error(error: BaseException, depth: int) -> ssl.SSLError | None:
    if isinstance(error, ssl.SSLError) or depth == 0:
        return error if isinstance(error, ssl.SSLError) else None
    around = (*error.args, getattr(error, "reason", None), error.__context__)
    inner = (one for one in around if isinstance(one, BaseException))
    return next((found for one in inner if (found := _ssl_error(one, depth - 1))), None)
