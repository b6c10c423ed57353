"""The layout of the hosted vault: what a role must say, what recipients get, and how it is installed (a real OpenBao)."""

from __future__ import annotations

from typing import Any

import pytest

from kmscore.vaultclient.answers import VaultRefused
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from tests.by_hand import wrapped
from tests.vaults.hosted.cast import A, B, Cast, enrol, platform_login, provision, status
from vaults.hosted import credentials, identities, layout
from vaults.hosted.hvac_client import client_of

ENVIRONMENT_ROLE = dict(identities.ENVIRONMENT_ROLE)
ATOM_ROLE = dict(identities.ATOM_ROLE)
POLICY = {"policy": 'path "*" { capabilities = ["sudo", "read", "update"] }'}


class TestPinnedRoleParameters:
    """Each parameter of a recipient's role is pinned and required."""

    @pytest.mark.parametrize("missing", ENVIRONMENT_ROLE)
    @pytest.mark.parametrize(("mount", "role"), [("environments", ENVIRONMENT_ROLE), ("atoms", ATOM_ROLE)])
    def test_missing(self, cast: Cast, mount: str, role: dict[str, str], missing: str) -> None:
        body = {name: value for name, value in role.items() if name != missing}
        assert status(cast.tokens["provisioner"], "POST", f"auth/{mount}/role/pinned", body) == 403

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            *(("token_type", "service"), ("token_type", "default"), ("token_ttl", "700h"), ("token_ttl", "")),
            *(("token_no_default_policy", "false"), ("token_policies", "root"), ("token_policies", "kms-rotator")),
            *(("token_policies", "kms-environment,root"), ("token_policies", "kms-environment,kms-rotator")),
            *(("token_policies", ["kms-environment", "kms-rotator"]), ("token_policies", "")),
            *(("secret_id_ttl", "0"), ("secret_id_ttl", "9000h"), ("secret_id_num_uses", "1")),
        ],
    )
    def test_other_value(self, cast: Cast, parameter: str, value: Any) -> None:
        body = ENVIRONMENT_ROLE | {parameter: value}
        assert status(cast.tokens["provisioner"], "POST", "auth/environments/role/pinned", body) == 403

    @pytest.mark.parametrize("name", ["*", "+", "a/b", "../platform/role/web"])
    def test_names_that_mean_more_than_one(self, cast: Cast, name: str) -> None:
        answer = status(cast.tokens["provisioner"], "POST", f"auth/environments/role/{name}", ENVIRONMENT_ROLE)
        assert answer in {403, 404, 405}


class TestRecipients:
    def test_creating_a_role_again_is_refused_and_a_wrapped_role_id_says_that_it_exists(self, cast: Cast) -> None:
        provisioner, recipient = cast.tokens["provisioner"], "0f6c2b9e-0000-4000-8000-000000000001"
        provision(provisioner, recipient, OF_ENVIRONMENTS)
        assert status(provisioner, "POST", f"auth/environments/role/{recipient}", ENVIRONMENT_ROLE) == 403
        assert status(provisioner, "GET", f"auth/environments/role/{recipient}/role-id", None, "60s") == 200
        assert status(provisioner, "GET", "auth/environments/role/unmade/role-id", None, "60s") == 404

    def test_create_role_again_is_no_error_and_a_refusal_still_is(self, cast: Cast) -> None:
        recipient = "0f6c2b9e-0000-4000-8000-000000000003"
        for _ in range(2):
            layout.create_role(client_of(cast.tokens["provisioner"]), "atoms", recipient, ATOM_ROLE)
        with pytest.raises(VaultRefused):
            layout.create_role(client_of(cast.tokens["provisioner"]), "atoms", "unmade", ENVIRONMENT_ROLE)
        with pytest.raises(VaultRefused):
            layout.create_role(client_of(cast.tokens["web"]), "atoms", "unmade", ATOM_ROLE)

    def test_a_token_is_a_batch_token_of_five_minutes_with_one_policy(self, cast: Cast) -> None:
        token = cast.tokens["runtime_a"]
        found = cast.root.call("POST", "auth/token/lookup", {"token": token._token})["data"]
        assert (found["type"], found["creation_ttl"], found["policies"]) == ("batch", 300, ["kms-environment"])
        assert found["renewable"] is False

    def test_destroying_one_secret_id_leaves_the_others(self, cast: Cast) -> None:
        recipient = "0f6c2b9e-0000-4000-8000-000000000002"
        provision(cast.tokens["provisioner"], recipient, OF_ENVIRONMENTS)
        _, first = enrol(cast.tokens, recipient, "environments")
        _, second = enrol(cast.tokens, recipient, "environments")
        path = f"auth/environments/role/{recipient}/secret-id"
        assert status(cast.tokens["watch"], "POST", f"{path}-accessor/destroy", {"secret_id_accessor": first}) == 200
        assert cast.tokens["watch"].call("LIST", path)["data"]["keys"] == [second]

    def test_secret_id_metadata_cannot_pose_as_another_environment(self, cast: Cast) -> None:
        role = wrapped(cast.tokens["provisioner"], "GET", f"auth/environments/role/{B}/role-id", seconds=60)
        forged = {"metadata": f'{{"role_name": "{A}"}}'}
        secret = wrapped(cast.tokens["issuer"], "POST", f"auth/environments/role/{B}/secret-id", forged, seconds=60)
        nobody = cast.root.with_token("")
        login = nobody.login(
            "environments",
            nobody.unwrap_response(role.token)["role_id"],
            nobody.unwrap_response(secret.token)["secret_id"],
        )
        assert status(nobody.with_token(login.token), "GET", f"datakeys/data/{A}/1") == 403
        assert status(nobody.with_token(login.token), "GET", f"datakeys/data/{B}/1") == 200

    def test_a_role_among_the_atoms_opens_no_environment_of_its_name(self, cast: Cast) -> None:
        """An attack that succeeded: by a role called like an environment, on the other mount, where nobody looks for it."""
        layout.create_role(client_of(cast.tokens["provisioner"]), "atoms", A, ATOM_ROLE)
        reader, _ = enrol(cast.tokens, A, "atoms")
        opening = {"ciphertext": cast.sample["a"]}
        assert status(cast.tokens["runtime_a"], "POST", f"intransit/decrypt/{A}", opening) == 200
        assert status(reader, "POST", f"intransit/decrypt/{A}", opening) == 403
        assert status(reader, "GET", f"datakeys/data/{A}/1") == 403

    def test_five_wrong_secret_ids_lock_nobody_out(self, cast: Cast) -> None:
        role_id = cast.root.call("GET", f"auth/environments/role/{A}/role-id")["data"]["role_id"]
        secret_id = cast.root.call("POST", f"auth/environments/role/{A}/secret-id", {})["data"]["secret_id"]
        for _ in range(7):
            with pytest.raises(VaultRefused):
                cast.root.with_token("").login("environments", role_id, "wrong")
        assert cast.root.with_token("").login("environments", role_id, secret_id).token


class TestInstall:
    def test_twice_changes_nothing(self, bare: Vault) -> None:
        assert layout.installed_version(client_of(bare)) is None
        layout.install(client_of(bare))
        before = _everything(bare)
        layout.install(client_of(bare))
        assert _everything(bare) == before
        assert layout.installed_version(client_of(bare)) == layout.LAYOUT_VERSION

    def test_finishes_what_was_broken_off(self, bare: Vault) -> None:
        layout.install(client_of(bare))
        whole = _everything(bare)
        bare.call("DELETE", "sys/policies/acl/kms-web")
        bare.call("DELETE", "auth/platform/role/shredder")
        bare.call("POST", "intransit/config/keys", {"disable_upsert": False})
        layout.install(client_of(bare))
        assert _everything(bare) == whole

    def test_credentials_survive_a_second_install(self, bare: Vault) -> None:
        layout.install(client_of(bare))
        credential = credentials.issue_credential(client_of(bare), "web")
        layout.install(client_of(bare))
        assert credentials.still_good(client_of(bare), credential)
        credentials.revoke_credential(client_of(bare), "web", credential)
        assert not credentials.still_good(client_of(bare), credential)

    @pytest.mark.parametrize(
        ("version", "error"), [(0, layout.LayoutOlder), (layout.LAYOUT_VERSION + 1, layout.LayoutNewer)]
    )
    def test_another_layout_is_refused_in_one_line(self, bare: Vault, version: int, error: type[Exception]) -> None:
        for mount in ("mounts/intransit", "mounts/datakeys"):
            kind = "transit" if mount.endswith("intransit") else "kv"
            bare.call("POST", f"sys/{mount}", {"type": kind, "description": f"KMS Portal, layout {version}: x"})
        before = _everything(bare)
        with pytest.raises(error) as caught:
            layout.install(client_of(bare))
        assert f"layout {version}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert _everything(bare) == before

    def test_parts_of_two_layouts_are_left_alone(self, bare: Vault) -> None:
        layout.install(client_of(bare))
        found = bare.call("GET", "sys/mounts")["data"]["datakeys/"]["description"]
        earlier = found.replace(f"layout {layout.LAYOUT_VERSION}", "layout 2")
        bare.call("POST", "sys/mounts/datakeys/tune", {"description": earlier})
        before = _everything(bare)
        with pytest.raises(layout.LayoutForeign, match="different layouts"):
            layout.install(client_of(bare))
        assert _everything(bare) == before

    @pytest.mark.parametrize("description", ["", "somebody's own"])
    def test_a_mount_of_somebody_else_is_left_alone(self, bare: Vault, description: str) -> None:
        bare.call("POST", "sys/mounts/atrest", {"type": "transit", "description": description})
        before = _everything(bare)
        with pytest.raises(layout.LayoutForeign, match="atrest/"):
            layout.install(client_of(bare))
        assert _everything(bare) == before

    def test_a_platform_token_is_a_batch_token_of_fifteen_minutes(self, bare: Vault) -> None:
        layout.install(client_of(bare))
        for identity in identities.IDENTITIES:
            token = platform_login(bare, identity)._token
            found = bare.call("POST", "auth/token/lookup", {"token": token})["data"]
            assert (found["type"], found["creation_ttl"], found["policies"]) == ("batch", 900, [f"kms-{identity}"])


def _everything(vault: Vault) -> dict[str, Any]:
    """All that an installation writes, and what is beside it."""
    state: dict[str, Any] = {
        "mounts": vault.call("GET", "sys/mounts")["data"],
        "auth": vault.call("GET", "sys/auth")["data"],
        "policies": {},
        "roles": {},
    }
    for name in vault.call("LIST", "sys/policies/acl")["data"]["keys"]:
        found = vault.call("GET", f"sys/policies/acl/{name}")["data"]
        state["policies"][name] = found.get("policy")
    if "platform/" in state["auth"]:
        for name in vault.call("LIST", "auth/platform/role")["data"]["keys"]:
            state["roles"][name] = vault.call("GET", f"auth/platform/role/{name}")["data"]
    for mount in identities.KEYS:
        if f"{mount}/" in state["mounts"] and status(vault, "GET", f"{mount}/config/keys") == 200:
            state[mount] = vault.call("GET", f"{mount}/config/keys")["data"]
    return state


def test_nobody_locks_a_part_of_the_portal_out(bare: Vault) -> None:
    """Five wrong secret_ids for a known role_id were once enough."""
    layout.install(client_of(bare))
    web = credentials.issue_credential(client_of(bare), "web")
    for number in range(8):
        with pytest.raises(VaultRefused):
            bare.login("platform", web.role_id, f"wrong {number}")
    assert bare.login("platform", web.role_id, web.secret_id).token
