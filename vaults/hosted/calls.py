"""The few calls that the portal asks of the hosted vault, by the identity that may."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hvac import Client

from kmscore.vaultclient.answers import (
    IssuedDataKey,
    VaultError,
    VaultMisconfigured,
    VaultRefused,
    data_key_of,
    list_of,
    member_of,
    text_of,
    version_of,
)
from kmscore.vaultclient.mounts import ATREST, AUTHORITY, KEY_LIST, OF_ATOMS, RecipientMounts
from vaults.hosted import hvac_client, layout, ledger
from vaults.hosted.hvac_client import Wrapping, client_of, wrapping_of
from vaults.hosted.identities import ALLOW_DELETION, ATOM_ROLE, ENVIRONMENT_ROLE, KEY_PARAMETERS
from vaults.hosted.sessions import as_identity, server
from vaults.models import Recipient

# -- web ----------------------------------------------------------------------------------------------------------------


def new_data_key(recipient: Recipient) -> IssuedDataKey:
    """A data key of a recipient, of 256 bits, as the vault makes them unasked (identity web)."""
    answer = as_identity(
        "web",
        lambda client: client.secrets.transit.generate_data_key(
            str(recipient.pk), "plaintext", mount_point=recipient.mounts.transit
        ),
    )
    data = member_of(answer, "data")
    wrapped = text_of(data, "ciphertext")
    return IssuedDataKey(data_key_of(data), wrapped, version_of(data, wrapped))


def store_wrapped_keys(recipient: Recipient, document: int, wrapped: Mapping[str, str]) -> None:
    """Add wrapped data keys {data key id: wrapped} to a recipient's document (identity web)."""
    path = f"{recipient.pk}/{document}"
    as_identity("web", lambda client: hvac_client.add_to_document(client, recipient.mounts.documents, path, wrapped))


# -- issuer -------------------------------------------------------------------------------------------------------------


def wrapped_secret_id(mount: str, recipient: object, metadata: Mapping[str, str], seconds: int) -> Wrapping:
    """A response-wrapped secret_id for a recipient's role; its accessor is the wrapping's (identity issuer)."""
    answer = as_identity(
        "issuer",
        lambda client: client.auth.approle.generate_secret_id(
            str(recipient), dict(metadata), mount_point=mount, wrap_ttl=f"{seconds}s"
        ),
    )
    wrapping = wrapping_of(answer)
    if not wrapping.accessor:
        raise VaultMisconfigured("answer_invalid", "The vault issued a secret_id without telling its accessor.")
    return wrapping


# -- provisioner --------------------------------------------------------------------------------------------------------


def provision(mounts: RecipientMounts, recipient: object, account: object) -> None:
    """Whose a recipient is, then its keys (of an Atom the one at rest, too) and its role; doing it again changes nothing.

    Identity provisioner. Raises ForeignRecipient, before anything is made, when the ledger has it as another account's.
    """
    keys, role = ((mounts.transit, ATREST), ATOM_ROLE) if mounts is OF_ATOMS else ((mounts.transit,), ENVIRONMENT_ROLE)

    def call(client: Client) -> None:
        for mount in keys:
            client.secrets.transit.create_key(str(recipient), key_type=KEY_PARAMETERS["type"], mount_point=mount)
        layout.create_role(client, mounts.logins, str(recipient), role)

    ledger.note_owner(mounts, recipient, account)
    as_identity("provisioner", call)


def wrapped_role_id(mount: str, recipient: object, seconds: int) -> str:
    """A wrapping token for a recipient's role_id (identity provisioner)."""
    path = f"auth/{mount}/role/{recipient}/role-id"
    return wrapping_of(as_identity("provisioner", lambda client: client.read(path, wrap_ttl=f"{seconds}s"))).token


# -- rotator ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyVersions:
    """Of a recipient's in-transit key: the newest, and the oldest whose wrapped data keys the vault still opens."""

    latest: int
    oldest: int


def key_versions(recipient: Recipient) -> KeyVersions:
    """The versions of a recipient's in-transit key (identity rotator). Raises VaultRefused (404) when there is no key."""
    answer = as_identity(
        "rotator",
        lambda client: client.secrets.transit.read_key(str(recipient.pk), mount_point=recipient.mounts.transit),
    )
    found = member_of(answer, "data")
    latest, oldest = found.get("latest_version"), found.get("min_decryption_version")
    if type(latest) is not int or type(oldest) is not int:
        raise VaultMisconfigured("answer_invalid", "The vault's answer could not be read.")
    return KeyVersions(latest, oldest)


def has_keys(recipient: Recipient) -> bool:
    """Whether the vault still has a recipient's in-transit key (identity rotator)."""
    try:
        key_versions(recipient)
    except VaultRefused as refusal:
        if refusal.status != 404:
            raise
        return False
    return True


def rotate_key(recipient: Recipient) -> None:
    """Add a version to a recipient's in-transit key; each call adds one (identity rotator)."""
    as_identity(
        "rotator",
        lambda client: client.secrets.transit.rotate_key(str(recipient.pk), mount_point=recipient.mounts.transit),
    )


def refuse_versions_before(recipient: Recipient, version: int) -> None:
    """Let the vault open only what this version or a later one wrapped (identity rotator)."""
    as_identity(
        "rotator",
        lambda client: client.secrets.transit.update_key_configuration(
            str(recipient.pk), min_decryption_version=version, mount_point=recipient.mounts.transit
        ),
    )


def read_document(recipient: Recipient, document: int) -> dict[str, str] | None:
    """A recipient's document {data key id: wrapped data key}, None when there is none (identity rotator)."""
    path = f"{recipient.pk}/{document}"
    try:
        return as_identity(
            "rotator", lambda client: hvac_client.read_document(client, recipient.mounts.documents, path)
        )
    except VaultRefused as refusal:
        if refusal.status != 404:
            raise
    return None


def patch_document(recipient: Recipient, document: int, entries: Mapping[str, str | None]) -> bool:
    """Merge at most 400 entries; None takes one out. False: there is no such document (identity rotator)."""
    path = f"{recipient.pk}/{document}"
    return as_identity(
        "rotator", lambda client: hvac_client.patch_document(client, recipient.mounts.documents, path, entries)
    )


def rewrap(recipient: Recipient, wrapped: Sequence[str]) -> list[str]:
    """At most 400 wrapped data keys under the newest version, in order (identity rotator). Raises DataKeysBroken."""
    return as_identity(
        "rotator",
        lambda client: hvac_client.rewrap_data_keys(client, recipient.mounts.transit, str(recipient.pk), wrapped),
    )


def rewrap_status(recipient: Recipient, wrapped: str) -> int:
    """How the vault answers to a rewrap of one wrapped data key: 200 while its key lives, 400 after (identity rotator).

    Raises VaultUnavailable.
    """

    def call(client: Client) -> int:
        try:
            client.secrets.transit.rewrap_data(str(recipient.pk), wrapped, mount_point=recipient.mounts.transit)
        except VaultRefused as refusal:
            if refusal.status not in (400, 404):
                raise
            return refusal.status
        return 200

    return as_identity("rotator", call)


# -- watch --------------------------------------------------------------------------------------------------------------


def roles(mount: str) -> list[str]:
    """The names of all roles of a mount (identity watch)."""
    return as_identity("watch", lambda client: _keys(lambda: client.auth.approle.list_roles(mount_point=mount)))


def secret_ids(mount: str, role: str) -> list[str]:
    """The accessors of a role's secret_ids; none when there is no such role (identity watch)."""
    return as_identity("watch", lambda client: _secret_ids(client, mount, role))


def _secret_ids(client: Client, mount: str, role: str) -> list[str]:
    return _keys(lambda: client.auth.approle.list_secret_id_accessors(role, mount_point=mount))


def _keys(listed: Callable[[], dict[str, Any]]) -> list[str]:
    try:
        found = list_of(member_of(listed(), "data"), "keys")
    except VaultRefused as refusal:
        if refusal.status not in (400, 404):  # nothing there; the role does not exist
            raise
        return []
    return [str(name) for name in found]


def look_up_secret_id(mount: str, recipient: object, accessor: str) -> dict[str, Any] | None:
    """What the vault knows of a secret_id (`metadata`, `creation_time` …); None when it is gone (identity watch)."""

    def call(client: Client) -> dict[str, Any] | None:
        try:
            answer = client.auth.approle.read_secret_id_accessor(str(recipient), accessor, mount_point=mount)
            return member_of(answer, "data")
        except VaultError as error:
            failure = error
        if failure.status == 404:
            return None
        # Without its role the vault answers 500, as it does when it is failing; then it would not list either.
        if failure.status == 500 and accessor not in _secret_ids(client, mount, str(recipient)):
            return None
        raise failure

    return as_identity("watch", call)


def destroy_secret_id(mount: str, recipient: object, accessor: str) -> None:
    """Destroy a secret_id; one that is gone already is as good (identity watch)."""
    try:
        as_identity(
            "watch",
            lambda client: client.auth.approle.destroy_secret_id_accessor(str(recipient), accessor, mount_point=mount),
        )
        return
    except VaultError as error:
        failure = error
    # "Not there" is a 500 too, so that it has to be asked: else a second run would wait for the vault for ever.
    if failure.status == 403 or look_up_secret_id(mount, recipient, accessor) is not None:
        raise failure


def delete_role(mount: str, recipient: object) -> None:
    """Delete a recipient's role: nobody logs in with it any more; one that is gone is as good (identity watch)."""
    as_identity("watch", lambda client: client.auth.approle.delete_role(str(recipient), mount_point=mount))


# -- shredder -----------------------------------------------------------------------------------------------------------


def delete_keys(recipient: Recipient) -> None:
    """Delete a recipient's key in transit, and an Atom's at rest; those that are gone are as good (identity shredder).

    Raises VaultRefused `key_alive` when the vault says that there is still a key.
    """
    _delete_key(recipient.mounts.transit, str(recipient.pk))
    if recipient.mounts is OF_ATOMS:
        _delete_key(ATREST, str(recipient.pk))


def _delete_key(mount: str, name: str) -> None:
    def call(client: Client) -> None:
        transit = client.secrets.transit
        try:
            transit.update_key_configuration(name, mount_point=mount, **ALLOW_DELETION)
        except VaultRefused as refusal:
            # "No such key" is a 400 for both calls, as is "deletion is not allowed"; so this one's answer decides.
            if refusal.status not in (400, 404):
                raise
            return
        transit.delete_key(name, mount_point=mount)

    as_identity("shredder", call)


def delete_document(recipient: Recipient, document: int) -> None:
    """Delete a document of wrapped data keys with all its versions; one that is gone is as good (identity shredder)."""
    path = f"{recipient.pk}/{document}"
    as_identity(
        "shredder",
        lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(
            path, mount_point=recipient.mounts.documents
        ),
    )


# -- nobody -------------------------------------------------------------------------------------------------------------


def key_list(identity: str) -> str:
    """The signed key list as the vault has it (any identity); "" when it has none."""
    read = lambda client: client.secrets.kv.v2.read_secret_version(  # noqa: E731
        KEY_LIST, mount_point=AUTHORITY, raise_on_deleted_version=True
    )
    try:
        return text_of(member_of(member_of(as_identity(identity, read), "data"), "data"), "keys")
    except VaultRefused as refusal:
        if refusal.status == 404:
            return ""
        raise


def server_time() -> int:
    """The vault's own clock, in seconds since 1970; asks without a token."""
    return server().server_time()


def health() -> str:
    """`ok`, or the code of what is wrong; asks without a token."""
    try:
        client_of(server()).sys.read_health_status(method="GET")
    except VaultError as error:
        return error.code
    return "ok"
