"""What each step of the preflight and each of its verdicts means: one sentence, and the command that mends it.

Pure and total: every code at every step has a sentence, and so has every code that the vault's client and the token's
session give besides; the container's `check` and `status` and the portal's panel show the same words. Commands are for the
customer's side; every name in them is quoted for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from kmscore.byov import policy
from kmscore.byov.customer import EndpointRefused, endpoint_of, normalised_namespace, placeholder_of

State = Literal["ok", "failed", "warning", "skipped"]

TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "address": "The vault's address",
        "dns": "Name",
        "tcp": "Connection",
        "tls": "TLS",
        "vault": "A vault answers",
        "initialised": "Initialised",
        "sealed": "Unsealed",
        "namespace": "Namespace",
        "token": "Token",
        "token_type": "Kind of token",
        "renewable": "Token can be renewed",
        "periodic": "Token without a maximum age",
        "orphan": "Token of its own",
        "hard_expiry": "Token without a fixed end",
        "use_limit": "Token without a limit of uses",
        "engine": "Transit engine",
        "key": "Key",
        "datakey": "Data keys",
        "decrypt": "Unwrapping",
        "round_trip": "Round trip",
    }
)
STEPS: Final = tuple(TITLES)
OK: Final = "ok"
SKIPPED: Final = "skipped"

# The step at which each verdict is at home. What concerns the way to the vault (vault_timeout, vault_busy …) can happen later too.
CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "confirm_vault": "address",
        "env_missing": "address",
        "env_not_allowed": "address",
        "placeholder_in_text": "address",
        "file_refused": "address",
        "uri_refused": "address",
        "vault_dns": "dns",
        "vault_refused": "tcp",
        "vault_timeout": "tcp",
        "vault_proxy": "tcp",
        "tls_none": "tls",
        "tls_name": "tls",
        "tls_ca": "tls",
        "tls_expired": "tls",
        "tls_client_cert": "tls",
        "tls_failed": "tls",
        "not_a_vault": "vault",
        "vault_redirects": "vault",
        "vault_failing": "vault",
        "vault_busy": "vault",
        "vault_not_initialised": "initialised",
        "vault_sealed": "sealed",
        "namespace_missing": "namespace",
        "token_invalid": "token",
        "token_foreign_namespace": "token",
        "token_lookup_denied": "token",
        "token_is_root": "token_type",
        "token_batch": "token_type",
        "token_not_renewable": "renewable",
        "token_not_periodic": "periodic",
        "token_dies_with_parent": "orphan",
        "token_hard_expiry": "hard_expiry",
        "token_use_limited": "use_limit",
        "engine_missing": "engine",
        "engine_other": "engine",
        "key_missing": "key",
        "key_deleted": "key",
        "key_unfit": "key",
        "policy_denies": "datakey",
        "wrapped_needs_decrypt": "decrypt",
        "round_trip_failed": "round_trip",
        "vault_internal": "datakey",
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step's outcome. code: ``ok``, ``skipped`` or one of CODES.

    detail: a short parameter, never a server's free text: a date, a path, a variable's name, a mount's type, seconds.
    """

    id: str
    state: State
    code: str = OK
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """command: lines to paste into a shell on the customer's side, "" when there is none."""

    title: str
    sentence: str
    command: str


_FINE: Final[Mapping[str, str]] = {
    "address": "The address and the token are known here and may be used together.",
    "dns": "The name resolves.",
    "tcp": "The server accepts connections.",
    "tls": "The certificate is trusted and names this host.",
    "vault": "A vault answers at this address.",
    "initialised": "The vault is initialised.",
    "sealed": "The vault is unsealed.",
    "namespace": "The namespace is there.",
    "token": "The vault knows the token.",
    "token_type": "It is a service token, and not a root token.",
    "renewable": "The token can be renewed.",
    "periodic": "The token is periodic: it lives as long as it is renewed.",
    "orphan": "The token does not depend on another token.",
    "hard_expiry": "No date ends the token for good.",
    "use_limit": "The token can be used any number of times.",
    "engine": "The transit engine is at transit/.",
    "key": "The key is there and can wrap data keys.",
    "datakey": "The token may make data keys.",
    "decrypt": "The token may unwrap data keys.",
    "round_trip": "A data key of 32 bytes came back; it was thrown away.",
}

_SENTENCES: Final[Mapping[str, str]] = {
    "confirm_vault": "What is held on the container would go to a vault named elsewhere: confirm the vault on the container first.",
    "env_missing": "The variable {detail} is not set in the container's environment: set it for kms-runtime, and do not "
    "start that as root in another user's directory, where it reads no variable.",
    "env_not_allowed": "The container does not give out the variable {detail}: allow it there, if it is meant for the vault.",
    "placeholder_in_text": "A placeholder stands inside the text of {detail}: only whole values are filled in on the container.",
    "file_refused": "The file {detail} names cannot be read on the container, or is not PEM, or its password is wrong.",
    "uri_refused": "The uri cannot be used ({detail}): it must be https://host:port, without a user name, a question mark or a #.",
    "vault_dns": "The name {host} does not resolve on the container.",
    "vault_refused": "Nothing accepts connections at {place}: wrong port, vault stopped, or a firewall refuses.",
    "vault_timeout": "No answer from {place} in time: a firewall drops the packets, or the server hangs.",
    "vault_proxy": "The proxy does not answer, or does not let connections through to {place}.",
    "tls_none": "The address is http: the token and the data keys travel in the clear.",
    "tls_name": "The server's certificate does not name {host}: use a name that is in the certificate, or issue another one.",
    "tls_ca": "The server's certificate is signed by nobody trusted here: name the CA's PEM file (trust-store, VAULT_CACERT).",
    "tls_expired": "The server's certificate has expired, is not valid yet, or the container's clock is wrong.",
    "tls_client_cert": "The server wants a client certificate it accepts: name a PEM file with certificate and key as key-store.",
    "tls_failed": "TLS cannot be agreed on: the port speaks plain http, another protocol, or no version both sides know.",
    "not_a_vault": "What answers at {place} is not a vault, or wants https, or something between changes its answers.",
    "vault_redirects": "The address answers with a redirect, which is never followed with a token: name the address it leads to.",
    "vault_failing": "The vault's address answers with an error (5xx) or breaks off: the vault or what stands before it is down.",
    "vault_busy": "The vault is at its rate limit and refuses requests for now.",
    "vault_not_initialised": "The vault was never initialised.",
    "vault_sealed": "The vault is sealed.",
    "namespace_missing": "The vault has no namespace {namespace}; names are case-sensitive.",
    "token_invalid": "The vault does not know the token: mistyped, expired, revoked or used up. "
    "Make a new one, then upload a file with it, or set the variable that the file names.",
    "token_foreign_namespace": "The token belongs to the namespace {detail} and has no rights in {namespace}: make it there.",
    "token_lookup_denied": "The token may not look itself up, so it is never renewed and its end is not known.",
    "token_is_root": "This is a root token, which may do everything, and is refused: make a token with only this key's policy.",
    "token_batch": "This is a batch token, which cannot be renewed or revoked, and is refused: make a periodic service token.",
    "token_not_renewable": "The token cannot be renewed and ends on {detail}, whatever is done.",
    "token_not_periodic": "The token is not periodic: renewals end at the mount's maximum, by default 32 days ({detail}).",
    "token_dies_with_parent": "The token is another token's child and ends when that one ends or is revoked.",
    "token_hard_expiry": "The token has a fixed end on {detail}, whatever is done.",
    "token_use_limited": "The token can be used only a limited number of times, and every renewal and every start uses it.",
    "engine_missing": "There is no secrets engine at transit/.",
    "engine_other": "The engine at transit/ is {detail}, not transit.",
    "key_missing": "There is no key {key} in transit/.",
    "key_deleted": "The key {key} was deleted and can still be restored.",
    "key_unfit": "The key {key} cannot wrap data keys: it is derived, or of a type that cannot encrypt; neither can be changed.",
    "policy_denies": "The token's policy does not allow {detail}; another mount or key name than the policy's looks the same.",
    "wrapped_needs_decrypt": "The token's policy does not allow {detail}, which wrapped data keys need at every start.",
    "round_trip_failed": "The vault did not give back the data key it had just made: see whether two vaults share one address.",
    "vault_internal": "The vault is up and reports an internal error: see its own log (audit device, storage).",
}
# What no step of the preflight gives: of a token in use (kmsruntime/keysource/token_session.py), of the client's other calls.
_LATER: Final[Mapping[str, str]] = {
    "token_expired": "The token has expired, or its leases are too short to go on: make a new one, which lives longer.",
    "token_revoked": "The token was revoked.",
    "renewal_denied": "The vault does not renew the token: its policy lacks auth/token/renew-self.",
    "vault_unreachable": "The vault cannot be reached from the container, or breaks off.",
    "answer_invalid": "The vault's answer could not be read: something between changes it, or it is of an unknown version.",
    "permission_denied": "The vault refused: the token or its policy does not allow it.",
    "not_found": "The vault has nothing at the path that was asked for.",
    "request_refused": "The vault refused the request.",
    "document_missing": "The vault has lost the document of wrapped data keys.",
    "data_keys_broken": "The vault does not open wrapped data keys that it is asked to open.",
    "address_invalid": "The vault's address must start with https:// or http://.",
    "ca_invalid": "The CA file for the vault cannot be read on the container, or holds no certificates (PEM).",
    "cert_invalid": "The client certificate for the vault cannot be read on the container: PEM with certificate and key.",
}
_SKIPPED: Final = "Not checked."
_UNKNOWN: Final = "Something went wrong that this version has no words for ({code})."

_NEW_TOKEN: Final = "vault token create{ns} -orphan -period=24h -no-default-policy -policy={key}"  # noqa: S105 a command
_POLICY: Final = "vault policy write{ns} {key} - <<'POLICY'\n{policy}POLICY"
_COMMANDS: Final[Mapping[str, str]] = {
    "confirm_vault": "kms-runtime allow-vault {address}",
    "env_not_allowed": "kms-runtime allow-vault --allow-env {detail}",
    "vault_dns": "getent hosts {host}",
    "vault_refused": "vault status",
    "tls_name": "openssl s_client -connect {place} </dev/null | openssl x509 -noout -ext subjectAltName",
    "tls_ca": "openssl s_client -showcerts -connect {place} </dev/null",
    "tls_expired": "openssl s_client -connect {place} </dev/null | openssl x509 -noout -dates",
    "vault_busy": "vault list sys/quotas/rate-limit",
    "vault_not_initialised": "vault operator init",
    "vault_sealed": "vault operator unseal",
    "namespace_missing": "vault namespace create {namespace}",
    "token_invalid": _NEW_TOKEN,
    "token_expired": _NEW_TOKEN,
    "token_revoked": _NEW_TOKEN,
    "renewal_denied": _POLICY,
    "token_foreign_namespace": _NEW_TOKEN,
    "token_lookup_denied": _POLICY,
    "token_is_root": _NEW_TOKEN,
    "token_batch": _NEW_TOKEN,
    "token_not_renewable": _NEW_TOKEN,
    "token_not_periodic": _NEW_TOKEN,
    "token_dies_with_parent": _NEW_TOKEN,
    "token_hard_expiry": _NEW_TOKEN,
    "token_use_limited": _NEW_TOKEN,
    "engine_missing": "vault secrets enable{ns} transit",
    "engine_other": "vault secrets list{ns}",
    "key_missing": "vault write{ns} -f transit/keys/{key}",
    "key_deleted": "vault write{ns} -f transit/keys/{key}/soft-delete-restore",
    "key_unfit": "vault read{ns} transit/keys/{key}",
    "policy_denies": _POLICY,
    "wrapped_needs_decrypt": _POLICY,
    "round_trip_failed": "vault read{ns} transit/keys/{key}",
}


def explain(step: Step, *, key: str, namespace: str = "", uri: str = "", wrapped: bool = False) -> Explanation:
    """The words for a step. uri may hold a placeholder; then the commands that need a host are left out."""
    title = TITLES.get(step.id, step.id)
    if step.code in (OK, SKIPPED) or step.state in (OK, SKIPPED):
        sentence = _SKIPPED if SKIPPED in (step.state, step.code) else _FINE.get(step.id, "")
        return Explanation(title, sentence, "")
    host, place, address = _place(uri)
    names = {
        "key": key,
        "detail": step.detail,
        "namespace": normalised_namespace(namespace) or "root",
        "code": step.code,
    }
    words = names | {"host": host or "of the vault", "place": place or "the vault's address"}
    sentence = (_SENTENCES.get(step.code) or _LATER.get(step.code, _UNKNOWN)).format_map(words)
    command = _COMMANDS.get(step.code, "")
    if not host and any(part in command for part in ("{host}", "{place}", "{address}")):
        command = ""
    places = {"host": host, "place": place, "address": address}
    quoted = {name: _quoted(text) for name, text in (names | places).items()}
    quoted["ns"] = f" -namespace={quoted['namespace']}" if normalised_namespace(namespace) else ""
    # It is written over the one that is there, which may have been made to forbid plaintext data keys.
    quoted["policy"] = policy.hcl(policy.rules(key, wrapped=wrapped, forbid_plaintext=wrapped))
    return Explanation(title, sentence, command.format_map(quoted))


def _quoted(text: str) -> str:
    """One word of a shell; a placeholder becomes the shell's own variable."""
    variable = placeholder_of(text)
    if variable and variable.name.isidentifier():
        return f'"${{{variable.name}}}"'
    return shlex.quote(text)


def _place(uri: str) -> tuple[str, str, str]:
    """Host, host:port, and scheme://host:port; "" each when the uri cannot be read yet."""
    try:
        endpoint = endpoint_of(uri)
    except EndpointRefused:
        return "", "", ""
    return endpoint.host, endpoint.address.split("://", 1)[1], endpoint.address
