"""TLS towards a vault or a portal: whose certificate is taken, and that nothing comes from the environment."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kmscore.vaultclient.answers import VaultMisconfigured
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.tls import client_context
from kmsruntime.errors import AddressRefused
from kmsruntime.remote.addresses import checked_ca
from tests.kmscore.byov.situations import _request, serving


def certificate(directory: Path, *extensions: x509.ExtensionType) -> Path:
    """One of localhost by its subject, its own CA, with these extensions: the file, with the key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    for one in extensions:
        builder = builder.add_extension(one, critical=False)
    pem = directory / "server.pem"
    pem.write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem


@contextmanager
def server(pem: Path, version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> Iterator[str]:
    """Answers everything with {}: its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if version is not ssl.TLSVersion.MAXIMUM_SUPPORTED:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version

    def handle(connection: socket.socket) -> None:
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as tls:
            _request(tls)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    with serving(handle) as port:
        yield f"https://localhost:{port}"


def named(name: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name)])


def test_a_certificate_of_that_host_is_taken(tmp_path: Path) -> None:
    pem = certificate(tmp_path, named("localhost"))
    with server(pem) as address:
        assert Vault(address, ca=str(pem)).call("GET", "sys/health") == {}


@pytest.mark.parametrize("names", [(), (named("elsewhere"),)], ids=["no name but in its subject", "another name"])
def test_a_subject_names_no_host(tmp_path: Path, names: tuple[x509.ExtensionType, ...]) -> None:
    pem = certificate(tmp_path, *names)
    with server(pem) as address, pytest.raises(VaultMisconfigured) as caught:
        Vault(address, ca=str(pem)).call("GET", "sys/health")
    assert caught.value.code == "tls_name"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_versions_and_strangers_are_refused(tmp_path: Path) -> None:
    pem = certificate(tmp_path, named("localhost"))
    with server(pem, ssl.TLSVersion.TLSv1_1) as address, pytest.raises(VaultMisconfigured):
        Vault(address, ca=str(pem)).call("GET", "sys/health")
    with server(pem) as address, pytest.raises(VaultMisconfigured) as caught:
        Vault(address).call("GET", "sys/health")
    assert caught.value.code == "tls_ca"


def test_nothing_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem, keys = certificate(tmp_path, named("localhost")), tmp_path / "keys"
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(pem))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    with server(pem) as address:
        Vault(address, ca=checked_ca("--vault-ca", pem)).call("GET", "sys/health")
        with pytest.raises(VaultMisconfigured):
            Vault(address).call("GET", "sys/health")
    assert not keys.exists(), "the keys of the connections"


def test_all_else_is_as_python_makes_it_for_a_client() -> None:
    ours, theirs = client_context(), ssl.create_default_context()
    for name in ("verify_mode", "check_hostname", "verify_flags", "options", "maximum_version"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert [one["name"] for one in ours.get_ciphers()] == [one["name"] for one in theirs.get_ciphers()]
    assert ours.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_certificates_file_without_bounds_is_not_read(tmp_path: Path) -> None:
    """Whoever names it kept root's program busy for as long as it takes to read the largest file of the machine."""
    pem = certificate(tmp_path)
    assert checked_ca("--vault-ca", pem)
    os.truncate(pem, 16 * 1024 * 1024 + 1)
    with pytest.raises(AddressRefused):
        checked_ca("--vault-ca", pem)


@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc/version", "/proc/self/environ"])
def test_what_the_kernel_shows_as_a_file_of_no_size_is_not_read(path: str) -> None:
    """The first is never read to its end: a trust-store that a properties file named held root's container up for good."""
    with pytest.raises(AddressRefused):
        checked_ca("--vault-ca", Path(path))
