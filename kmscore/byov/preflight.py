"""Whether a container can use a customer's vault: ordered steps, each with a verdict.

Pure over a `Transport`; run by the container, never by the portal. Verdicts come from the order of the calls and their
status; a look at a text only tells a missing key from an unfit one. At most five calls, and nothing is written.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

from kmscore.byov.customer import normalised_namespace
from kmscore.byov.token import DEFAULT_MAX_TTL, Token, TokenUnreadable, read_token
from kmscore.byov.verdicts import CODES, OK, SKIPPED, STEPS, Step
from kmscore.sealed.envelope import KEY_BYTES
from kmscore.wording import moment_of

MOUNT: Final = "transit"
_DETAIL_CHARACTERS: Final = 200
_ERRORS, _ERROR_CHARACTERS = 10, 1000  # that are looked at: an answer may be all one text
_MOUNT_TYPE: Final = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True)
class VaultAnswer:
    """What came back: a status with its JSON, or status 0 and the code of what went wrong on the way."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    code: str = ""


class Transport(Protocol):
    """The way to the vault. `resolve`, `connect` and `handshake` give a code of CODES, "" when all is well."""

    namespace: str

    def resolve(self) -> str: ...

    def connect(self) -> str: ...

    def handshake(self) -> str: ...

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: bool = True,
        namespace: bool = True,
    ) -> VaultAnswer: ...


def run(transport: Transport, *, key: str, wrapped: bool) -> tuple[Step, ...]:
    """Ask step by step until one fails; the rest is skipped. All of STEPS, in order. Raises nothing of its own."""
    asking = _Asking(transport, key, wrapped)
    with suppress(_Stopped):
        asking.way()
        asking.server()
        asking.namespace_and_token()
        asking.data_key()
    return _completed(asking.steps)


def refused(code: str, detail: str = "") -> tuple[Step, ...]:
    """The steps when the caller stopped before any network: `code` fails at its own step."""
    before = STEPS[: STEPS.index(CODES[code])]
    return _completed([*(_skipped(one) for one in before), Step(CODES[code], "failed", code, detail)])


def verdict(steps: tuple[Step, ...]) -> Step:
    """The step that failed; the last one as ok when none did."""
    return next((step for step in steps if step.state == "failed"), Step(STEPS[-1], "ok"))


def _completed(found: list[Step]) -> tuple[Step, ...]:
    return (*found, *(_skipped(one) for one in STEPS[len(found) :]))


def _skipped(step: str) -> Step:
    return Step(step, "skipped", SKIPPED)


class _Stopped(Exception):
    """A step failed."""


class _Asking:
    """One run: the steps so far, and what the answers told that later steps need."""

    def __init__(self, transport: Transport, key: str, wrapped: bool) -> None:
        self._transport, self._key, self._wrapped = transport, key, wrapped
        self._engine = ""  # the type at transit/; "" when this token sees no mount there
        self._home: str | None = None  # the namespace above the asked one that the token is of; None for its own
        self.steps: list[Step] = []

    def _note(self, step: str, code: str = OK, detail: str = "") -> None:
        self._add(Step(step, "ok" if code == OK else "warning", code, detail))

    def _fail(self, step: str, code: str, detail: str = "") -> NoReturn:
        self._add(Step(step, "failed", code, detail))
        raise _Stopped

    def _add(self, step: Step) -> None:
        """Steps in between were not asked, or the vault does not tell."""
        between = STEPS[len(self.steps) : STEPS.index(step.id)]
        self.steps += [*map(_skipped, between), step]

    # -- the server ------------------------------------------------------------------------------------------------

    def way(self) -> None:
        """Name and connection."""
        self._note("address")
        for step, ask in (("dns", self._transport.resolve), ("tcp", self._transport.connect)):
            code = ask()
            if code:
                self._fail(step, code)
            self._note(step)

    def server(self) -> None:
        """TLS, and what the server says of itself to anybody."""
        tls = self._transport.handshake()
        if tls and tls != "tls_none":
            self._fail("tls", tls)
        # Asked in a namespace it answers 400.
        health = self._transport.request("GET", "sys/health", token=False, namespace=False)
        # In TLS 1.3 a server refuses a client's certificate after the handshake: only the first answer tells.
        if health.code.startswith("tls_"):
            self._fail("tls", health.code)
        self._note("tls", tls or OK)
        self._vault(health)
        if not health.body["initialized"]:
            self._fail("initialised", "vault_not_initialised")
        self._note("initialised")
        if health.body["sealed"]:
            self._fail("sealed", "vault_sealed")
        self._note("sealed")

    def _vault(self, health: VaultAnswer) -> None:
        """sys/health answers with 200, 429 (standby), 472, 473, 501 or 503, and always says these two things."""
        if health.code:
            self._fail("vault", health.code)
        if not all(isinstance(health.body.get(name), bool) for name in ("initialized", "sealed")):
            self._fail("vault", _trouble(health.status, "vault_failing") or "not_a_vault")
        self._note("vault")

    def _ask(self, step: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> VaultAnswer:
        """An answer that is about the question; whatever else goes wrong fails `step`."""
        answer = self._transport.request(method, path, body, token=True, namespace=True)
        code = answer.code or _trouble(answer.status, "vault_internal")
        if code:
            self._fail(step, code)
        return answer

    # -- namespace and token ---------------------------------------------------------------------------------------

    def namespace_and_token(self) -> None:
        # Any live token is shown the mounts it can reach, whatever its policy: so a dead token is told from a poor one.
        mounts = self._ask("namespace", "GET", "sys/internal/ui/mounts")
        if mounts.status == 404:
            self._fail("namespace", "namespace_missing" if self._namespace else "not_a_vault")
        self._note("namespace")
        if mounts.status != 200:
            self._fail("token", "token_invalid")
        self._engine = _engine(mounts)
        lookup = self._ask("token", "GET", "auth/token/lookup-self")
        if lookup.status == 403:
            self._note("token", "token_lookup_denied")
        elif lookup.status != 200:
            self._fail("token", "token_invalid")
        else:
            self._token(_data(lookup))

    @property
    def _namespace(self) -> str:
        return normalised_namespace(self._transport.namespace)

    def _token(self, data: Mapping[str, Any]) -> None:
        try:
            token = read_token(data)
        except TokenUnreadable:
            token = None
        if token is None:
            self._fail("token", "not_a_vault")
        path, asked = data.get("namespace_path") or "", self._namespace
        if not isinstance(path, str) or len(path) > _DETAIL_CHARACTERS or not path.isprintable():
            self._fail("token", "not_a_vault")
        home = path.strip("/")
        if home != asked:
            self._home = home or "root"
            if home and not asked.startswith(f"{home}/"):
                self._fail("token", "token_foreign_namespace", home)
        self._note("token")
        self._kind(token)
        self._life(token)

    def _kind(self, token: Token) -> None:
        if token.root:
            self._fail("token_type", "token_is_root")
        if token.type == "batch":
            self._fail("token_type", "token_batch")
        self._note("token_type")

    def _life(self, token: Token) -> None:
        made = token.creation_time
        if token.renewable:
            self._note("renewable")
        else:
            self._note("renewable", "token_not_renewable", _date(made + token.creation_ttl))
        if token.period or token.role:  # a role's period is not shown; a renewal that gives less will tell
            self._note("periodic")
        else:
            self._note("periodic", "token_not_periodic", _date(made + max(DEFAULT_MAX_TTL, token.creation_ttl)))
        self._note("orphan", OK if token.orphan else "token_dies_with_parent")
        if token.explicit_max_ttl:
            self._note("hard_expiry", "token_hard_expiry", _date(made + token.explicit_max_ttl))
        else:
            self._note("hard_expiry")
        if token.num_uses:  # the look-up itself was one use; -1 says it was the last
            self._fail("use_limit", "token_use_limited")
        self._note("use_limit")

    # -- the key ---------------------------------------------------------------------------------------------------

    def data_key(self) -> None:
        if self._engine not in ("", MOUNT):
            self._fail("engine", "engine_other", self._engine)
        path = f"{MOUNT}/datakey/{'wrapped' if self._wrapped else 'plaintext'}/{self._key}"
        made = self._ask("datakey", "POST", path, {"bits": "256"})
        if made.status == 403:
            self._denied(path)
        if made.status == 404:
            self._fail("engine", "engine_missing")
        self._note("engine")
        if made.status >= 300:
            self._fail("key", _key_problem(made))
        self._note("key")
        self._note("datakey")
        if self._wrapped:
            self._unwrap(_data(made).get("ciphertext"))
        else:
            self._came_back(made)

    def _denied(self, path: str) -> NoReturn:
        """Whether engine and key are there stays hidden from a token that may not use them."""
        if self._engine:
            self._note("engine")
        if self._home is not None:
            self._fail("datakey", "token_foreign_namespace", self._home)
        self._fail("datakey", "policy_denies", path)

    def _unwrap(self, ciphertext: object) -> None:
        path = f"{MOUNT}/decrypt/{self._key}"
        opened = self._ask("decrypt", "POST", path, {"ciphertext": ciphertext})
        if opened.status == 403:
            self._fail("decrypt", "wrapped_needs_decrypt", path)
        self._note("decrypt")
        self._came_back(opened)

    def _came_back(self, answer: VaultAnswer) -> None:
        if not _is_data_key(_data(answer).get("plaintext")):
            self._fail("round_trip", "round_trip_failed")
        self._note("round_trip")


def _trouble(status: int, failing: str) -> str:
    """What a status says of the server's state, "" when it speaks of the question."""
    if status == 429:
        return "vault_busy"
    if status == 503 and failing != "vault_failing":
        return "vault_sealed"
    return failing if status >= 500 else ""


def _key_problem(answer: VaultAnswer) -> str:
    """All three have status 400; only their texts differ, and "not found" is the same in Vault and OpenBao."""
    errors = answer.body.get("errors")
    texts = errors[:_ERRORS] if isinstance(errors, list) else []
    text = " ".join(one[:_ERROR_CHARACTERS] for one in texts if isinstance(one, str)).lower()
    if "soft-deleted" in text:
        return "key_deleted"
    return "key_missing" if "not found" in text else "key_unfit"


def _engine(mounts: VaultAnswer) -> str:
    secret = _data(mounts).get("secret")
    mount = secret.get(f"{MOUNT}/") if isinstance(secret, dict) else None
    kind = mount.get("type", "") if isinstance(mount, dict) else ""
    return kind if isinstance(kind, str) and _MOUNT_TYPE.fullmatch(kind) else "of another type" if kind else ""


def _data(answer: VaultAnswer) -> Mapping[str, Any]:
    data = answer.body.get("data")
    return data if isinstance(data, dict) else {}


def _is_data_key(text: object) -> bool:
    try:
        return isinstance(text, str) and len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except ValueError:  # not base64, nor even ASCII
        return False


def _date(moment: int) -> str:
    return moment_of(moment).strftime("%Y-%m-%dT%H:%M:%SZ")
