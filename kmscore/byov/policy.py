"""What the administrator of a customer's vault runs for one Atom: key, policy and token, as commands and as Terraform.

Pure text, made from names; it holds no secret and asks for none. A policy grants the paths of the seed and no more, so
that its token can make data keys with the Atom's own key, and nothing else.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from kmscore.byov.customer import holds_placeholder, key_name, normalised_namespace

Cli = Literal["vault", "bao"]

KEY_TYPE: Final = "aes256-gcm96"
PERIOD: Final = "24h"
# What no quoting can take from a policy's path: globs, further segments, templates, line ends.
_NO_NAME: Final = re.compile(r"[*+/\x00-\x1f\x7f\x85\u2028\u2029]|\{\{|\}\}")
_PLAIN_NAME: Final = re.compile(r"[^a-z0-9_.-]")


class NameRefused(ValueError):
    """A name would mean more than itself in a policy's path."""


@dataclass(frozen=True)
class Need:
    """What an Atom needs at the customer's vault. Raises NameRefused.

    wrapped: it keeps no plaintext key, so it must decrypt at every start. forbid_plaintext: its token is not even able to
    ask for a plaintext data key (only with wrapped). namespace: as in the properties file; a placeholder is left out.
    """

    account_code: str
    container_id: str
    wrapped: bool
    forbid_plaintext: bool = False
    namespace: str = ""

    def __post_init__(self) -> None:
        if not self.account_code or not self.container_id or _NO_NAME.search(self.key_name):
            raise NameRefused("not a name of a transit key")

    @property
    def key_name(self) -> str:
        """The transit key: accountID_containerID."""
        return key_name(self.account_code, self.container_id)


@dataclass(frozen=True, slots=True)
class Command:
    """One step: what it is called, the text to run in a shell, and why it is needed."""

    title: str
    text: str
    why: str


# -- the policy --------------------------------------------------------------------------------------------------------


def policy_name(need: Need) -> str:
    """The key's name in lower case, as a vault writes names of policies; other than plain characters become dashes."""
    return _PLAIN_NAME.sub("-", need.key_name.lower())


def policy_json(need: Need) -> str:
    """The policy as the seed shows it."""
    paths = {path: {"capabilities": [capability]} for path, capability in rules_of(need).items()}
    return json.dumps({"path": paths}, indent=2) + "\n"


def policy_hcl(need: Need) -> str:
    """The same rights in HCL."""
    return hcl(rules_of(need))


def rules_of(need: Need) -> dict[str, str]:
    return rules(need.key_name, wrapped=need.wrapped, forbid_plaintext=need.forbid_plaintext)


def rules(key: str, *, wrapped: bool, forbid_plaintext: bool) -> dict[str, str]:
    """Capability by path. Without decrypt a wrapped data key could be made, but never opened again (measured: 403)."""
    kind = "wrapped" if wrapped and forbid_plaintext else "+"
    found = {f"transit/datakey/{kind}/{key}": "update"}
    if wrapped:
        found[f"transit/decrypt/{key}"] = "update"
    return found | {"auth/token/lookup-self": "read", "auth/token/renew-self": "update"}


def hcl(found: Mapping[str, str]) -> str:
    """Rules as a policy in HCL, whatever stands in the paths."""
    return "\n".join(
        f'path {_hcl(path)} {{\n  capabilities = ["{capability}"]\n}}\n' for path, capability in found.items()
    )


def _hcl(text: str) -> str:
    """A string of HCL; `${` would begin an interpolation."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\u0024{")


# -- commands ----------------------------------------------------------------------------------------------------------


def commands(need: Need, cli: Cli, uri: str = "") -> list[Command]:
    """The steps in order; the last two are alternatives. uri: where the vault is, left out when empty or a placeholder.

    They run with the administrator's own token, and can all be run again.
    """
    return [*_address(cli, uri), *_preparation(need, cli), _token(need, cli), _token_by_role(need, cli)]


def script(need: Need, cli: Cli) -> str:
    """All steps as one shell script, which prints the new token alone on its standard output."""
    address = f"{cli.upper()}_ADDR"
    given = f"${{{address}:-${{VAULT_ADDR:-}}}}" if cli == "bao" else f"${{{address}:-}}"
    steps = [f"# {one.title}. {one.why}\n{_quiet(one.text)}\n" for one in _preparation(need, cli)]
    token = _token(need, cli)
    return "\n".join(
        [
            "#!/bin/sh",
            f"# Prepares a vault for the container {_comment(need.container_id)}; run it with an administrator's token.",
            "# It can be run again: each run makes one more token.",
            "set -eu",
            f'if [ -z "{given}" ]; then',
            f'  echo "Set {address} to the address of your vault." >&2',
            "  exit 1",
            "fi",
            "",
            *steps,
            f"# {token.title}. {token.why}",
            token.text,
            "",
        ]
    )


def _address(cli: Cli, uri: str) -> list[Command]:
    if not uri or holds_placeholder(uri):
        return []
    name = cli.upper()
    text = f"export {name}_ADDR={shlex.quote(uri.strip())}"
    why = f"The commands below go there, with the token of {name}_TOKEN or of `{cli} login`."
    return [Command("Name your vault", text, why)]


def _preparation(need: Need, cli: Cli) -> list[Command]:
    at = _namespace_option(need)
    key = shlex.quote(f"transit/keys/{need.key_name}")
    return [
        Command(
            "Enable the transit engine",
            f"{cli} secrets list{at} | grep -q '^transit/' || {cli} secrets enable{at} transit",
            "It makes the data keys; where it is enabled already, nothing is changed.",
        ),
        Command(
            "Create the key",
            f"{cli} write{at} {key} type={KEY_TYPE}",
            "The container's data keys are wrapped with it, and it never leaves the vault; a key that is there is kept.",
        ),
        Command(
            "Write the policy",
            f"{cli} policy write{at} {shlex.quote(policy_name(need))} - <<'POLICY'\n{policy_hcl(need)}POLICY",
            _why_policy(need),
        ),
    ]


def _why_policy(need: Need) -> str:
    if not need.wrapped:
        return "It allows data keys of this one key, and the token to look at and to renew itself."
    plain = " and no plaintext data keys" if need.forbid_plaintext else ""
    return f"It allows data keys of this one key{plain}, and decrypt, without which a wrapped key could not be opened again."


def _token(need: Need, cli: Cli) -> Command:
    return Command(
        "Create a periodic orphan token",
        f"{cli} token create{_namespace_option(need)} -orphan -period={PERIOD} {_token_options(need)}",
        "A plain token ends after 32 days (768 h), however often it is renewed, and together with the token that made it; "
        "a periodic orphan lives for as long as the container renews it.",
    )


def _token_by_role(need: Need, cli: Cli) -> Command:
    at, name = _namespace_option(need), policy_name(need)
    role = shlex.quote(f"auth/token/roles/{name}")
    return Command(
        "Or create it by a token role",
        f"{cli} write{at} {role} allowed_policies={shlex.quote(name)} period={PERIOD} orphan=true\n"
        f"{cli} token create{at} -role={shlex.quote(name)} {_token_options(need)}",
        "Periodic orphan tokens take a root or sudo token; with the role, who may update "
        f"auth/token/create/{name} can make one.",
    )


def _token_options(need: Need) -> str:
    return f"-policy={shlex.quote(policy_name(need))} -no-default-policy -field=token"


def _namespace_option(need: Need) -> str:
    namespace = "" if holds_placeholder(need.namespace) else normalised_namespace(need.namespace)
    return f" -namespace={shlex.quote(namespace)}" if namespace else ""


def _quiet(text: str) -> str:
    """A step whose own words go to standard error, so that the token stands alone."""
    return f"{{\n{text}\n}} >&2"


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


# -- Terraform ---------------------------------------------------------------------------------------------------------


def terraform(need: Need) -> str:
    """The same as resources of Terraform's vault provider. Its state holds the token: the file says so."""
    namespace = "" if holds_placeholder(need.namespace) else normalised_namespace(need.namespace)
    at = f"\n  namespace         = {_terraform(namespace)}" if namespace else ""
    rules = "\n".join(
        f"      {_terraform(path)} = {{ capabilities = [{_terraform(capability)}] }}"
        for path, capability in rules_of(need).items()
    )
    return f"""# Where transit is enabled already: terraform import vault_mount.transit transit
resource "vault_mount" "transit" {{
  path              = "transit"
  type              = "transit"{at}
}}

resource "vault_transit_secret_backend_key" "atom" {{
  backend           = vault_mount.transit.path
  name              = {_terraform(need.key_name)}
  type              = "{KEY_TYPE}"{at}

  lifecycle {{
    prevent_destroy = true # without the key the container's store cannot be opened
  }}
}}

resource "vault_policy" "atom" {{
  name              = {_terraform(policy_name(need))}{at}
  policy = jsonencode({{
    path = {{
{rules}
    }}
  }})
}}

# Periodic and an orphan: a plain token ends after 32 days (768 h), and with the token that made it.
resource "vault_token" "atom" {{
  policies          = [vault_policy.atom.name]
  no_parent         = true
  no_default_policy = true
  period            = "{PERIOD}"
  renewable         = true{at}
}}

# The state holds the token in the clear: keep it where secrets may be.
output "atom_token" {{
  value     = vault_token.atom.client_token
  sensitive = true
}}
"""


def _terraform(text: str) -> str:
    """A quoted template without templates."""
    return json.dumps(text, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
