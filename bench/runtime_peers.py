"""What the runtime is compared with.

`BareLoop` does the same work with nothing around it: fetch, both logins, documents, batches of 400 one after the other,
AES-GCM, a new data key, seal, fsync. No manifest check, no thread, no error handling, one format in its head.
`one_call_per_secret` is the same with one hvac call for each data key.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import hvac
import orjson
import requests
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from runtime_scene import ACCOUNT, ATOM, BenchEnvironment

from kmsruntime.disk.credentials import VaultLogin


class BareLoop:
    def __init__(
        self, portal: str, vault: str, environment: BenchEnvironment, atom: VaultLogin, directory: Path
    ) -> None:
        self.portal, self.vault, self.environment, self.atom = portal, vault, environment, atom
        self.store, self.key = directory / "bare.store", directory / "bare.key"

    def run(self) -> None:
        session = requests.Session()
        session.trust_env = False
        answer = orjson.loads(session.get(f"{self.portal}/api/atom/v1/sync").content)
        token, atom_token = self._login(session, self.environment.login), self._login(session, self.atom)
        wrapped = self._documents(session, token, answer)
        plaintexts = self._unwrap(session, token, [wrapped[row[2]] for row in answer["values"]])
        values = self._open(answer, plaintexts)
        made = self._post(session, f"atrest/datakey/plaintext/{ATOM}", atom_token, {"bits": "256"})["data"]
        self._write(values, base64.b64decode(made["plaintext"]))

    def restart(self) -> list[bytes]:
        decrypt = AESGCM(self.key.read_bytes()).decrypt
        b64decode = base64.b64decode
        return [
            decrypt(sealed[:12], sealed[12:], f"{ATOM}|{path}|{revision}".encode())
            for path, revision, sealed in (
                (path, revision, b64decode(text)) for path, revision, text in orjson.loads(self.store.read_bytes())
            )
        ]

    def _post(self, session: requests.Session, path: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"X-Vault-Token": token} if token else {}
        answer = session.post(f"{self.vault}/v1/{path}", data=orjson.dumps(body), headers=headers)
        answer.raise_for_status()
        return orjson.loads(answer.content)

    def _login(self, session: requests.Session, login: VaultLogin) -> str:
        body = {"role_id": login.role_id, "secret_id": login.secret_id}
        return self._post(session, f"auth/{login.mount}/login", "", body)["auth"]["client_token"]

    def _documents(self, session: requests.Session, token: str, answer: dict[str, Any]) -> dict[str, str]:
        wrapped: dict[str, str] = {}
        for number in sorted({row[3] for row in answer["values"]}):
            url = f"{self.vault}/v1/datakeys/data/{self.environment.id}/{number}"
            wrapped |= orjson.loads(session.get(url, headers={"X-Vault-Token": token}).content)["data"]["data"]
        return wrapped

    def _unwrap(self, session: requests.Session, token: str, wrapped: list[str]) -> list[bytes]:
        keys: list[bytes] = []
        for start in range(0, len(wrapped), 400):
            batch = [{"ciphertext": text} for text in wrapped[start : start + 400]]
            answer = self._post(session, f"intransit/decrypt/{self.environment.id}", token, {"batch_input": batch})
            keys += [base64.b64decode(one["plaintext"]) for one in answer["data"]["batch_results"]]
        return keys

    def _open(self, answer: dict[str, Any], keys: list[bytes]) -> list[tuple[str, int, bytes]]:
        head = b"".join(
            len(part).to_bytes(4, "big") + part
            for part in (
                b"kmsportal/1",
                ACCOUNT.encode(),
                self.environment.id.encode(),
                b"extension",
                (3).to_bytes(4, "big"),
            )
        )
        values = []
        for (path, revision, key_id, _, text), key in zip(answer["values"], keys, strict=True):
            parts = [part.encode() for part in path] + [revision.to_bytes(8, "big"), key_id.encode()]
            bound = head + b"".join([len(part).to_bytes(4, "big") + part for part in parts])
            sealed = base64.b64decode(text)
            values.append(("/".join(path), revision, AESGCM(key).decrypt(sealed[1:13], sealed[13:], bound)))
        return values

    def _write(self, values: list[tuple[str, int, bytes]], key: bytes) -> None:
        encrypt, rows = AESGCM(key).encrypt, []
        for path, revision, value in values:
            nonce = os.urandom(12)
            sealed = nonce + encrypt(nonce, value, f"{ATOM}|{path}|{revision}".encode())
            rows.append((path, revision, base64.b64encode(sealed).decode()))
        for place, content in ((self.key, key), (self.store, orjson.dumps(rows))):
            temporary = place.with_suffix(".new")
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
        directory = os.open(self.store.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


class OneCallPerSecret(BareLoop):
    """`most`: how many secrets are really unwrapped; a bench that stops early says so and extrapolates."""

    most = 1 << 30

    def _unwrap(self, session: requests.Session, token: str, wrapped: list[str]) -> list[bytes]:
        client = hvac.Client(url=self.vault, token=token)
        transit = client.secrets.transit
        return [
            base64.b64decode(
                transit.decrypt_data(self.environment.id, text, mount_point="intransit")["data"]["plaintext"]
            )
            for text in wrapped[: self.most]
        ]

    def unwrap_only(self) -> None:
        """Fetch, log in, read documents, unwrap `most` keys: what is extrapolated from."""
        session = requests.Session()
        session.trust_env = False
        answer = orjson.loads(session.get(f"{self.portal}/api/atom/v1/sync").content)
        token = self._login(session, self.environment.login)
        wrapped = self._documents(session, token, answer)
        self._unwrap(session, token, [wrapped[row[2]] for row in answer["values"]])
