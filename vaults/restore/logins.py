"""After a restore: logins at the vault that the database does not know, and nodes that were cut off since the backup."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction

from accounts.models import Account
from accounts.rows import is_uuid
from atoms.models import Atom, Node
from atoms.revocation import revoke_node
from kmscore.vaultclient.client import chunks
from kmscore.vaultclient.mounts import ATOMS, ENVIRONMENTS
from vaults import kms_audit
from vaults.hosted import calls
from vaults.logins.watch import ROWS, ListedLogin, claims_of, made_at
from vaults.models import SecretId
from vaults.restore.account import ACTOR, Restore


@dataclass(slots=True)
class VaultLogins:
    """What the vault lists. accessors: of all secret_ids; unknown: (login, node it names, when it was made) of those
    the database does not know."""

    accessors: set[str] = field(default_factory=set)
    roles: set[tuple[str, str]] = field(default_factory=set)  # (mount, name) of all roles
    unknown: list[tuple[ListedLogin, str, datetime | None]] = field(default_factory=list)


def listed() -> VaultLogins:
    """Every secret_id of runtimes: a call for each role, and one for each that the database does not know."""
    found = VaultLogins(roles={(mount, role) for mount in (ENVIRONMENTS, ATOMS) for role in calls.roles(mount)})
    for part in chunks(list(_all(found.roles)), ROWS):
        accessors = {login.accessor for login in part}
        known = set(SecretId.objects.filter(accessor__in=accessors).values_list("accessor", flat=True))
        found.accessors |= accessors
        for login in part:
            if login.accessor not in known:
                told = calls.look_up_secret_id(login.mount, login.role, login.accessor)
                found.unknown.append((login, claims_of(told).get("node", ""), made_at(told)))
    return found


def _all(roles: set[tuple[str, str]]) -> Iterator[ListedLogin]:
    for mount, role in sorted(roles):
        yield from (ListedLogin(mount, role, accessor) for accessor in calls.secret_ids(mount, role))


def cut_off_since(account: Account, found: VaultLogins, restore: Restore) -> list[Node]:
    """Nodes the older database believes in, though the newer vault has no login of theirs: they were revoked since.

    They are revoked again. Only where the vault is the newer one: an older vault lacks logins that are good. Not where the
    Atom's role is gone as well: then its account was disabled since, which cuts off and revokes nobody.
    """
    if restore.vault or not restore.database:
        return []
    renewed = {node for _, node, _ in found.unknown}
    nodes = Node.objects.filter(atom__account=account, state=Node.State.ENROLLED).select_related("atom__account")
    gone = [node for node in nodes.prefetch_related("secret_ids") if _is_cut_off(node, found, renewed)]
    for node in gone:
        revoke_node(node, actor=ACTOR)
    return gone


def _is_cut_off(node: Node, found: VaultLogins, renewed: set[str]) -> bool:
    good = [row for row in node.secret_ids.all() if row.confirmed_at and not row.superseded_at and not row.destroyed_at]
    if (ATOMS, str(node.atom_id)) not in found.roles:
        return False
    return bool(good) and str(node.pk) not in renewed and not any(row.accessor in found.accessors for row in good)


def adopt(account: Account, found: VaultLogins, restore: Restore) -> list[SecretId]:
    """Take over logins whose metadata names an enrolled node of this account, made before the restore.

    An older database does not know what its containers renewed since. Whoever held the identities of web and worker could
    have made such a login too, so an operator has to ask for it, and each is an audit row.
    """
    adopted = []
    for login, claimed, made in found.unknown:
        if made is None or made > restore.restored_at or not is_uuid(claimed):
            continue
        node = _claimed(account, uuid.UUID(claimed), login)
        if node is not None:
            adopted.append(_adopt(node, login, made))
    return adopted


def _claimed(account: Account, pk: uuid.UUID, login: ListedLogin) -> Node | None:
    """The enrolled node, if this role is its Atom's or its environment's."""
    enrolled = Node.objects.filter(pk=pk, atom__account=account, state=Node.State.ENROLLED)
    node = enrolled.select_related("atom__attached_to", "atom__account").first()
    if node is None:
        return None
    atom: Atom = node.atom
    own = atom.pk if login.mount == ATOMS else getattr(atom.environment, "pk", None)
    return node if str(own) == login.role else None


def _adopt(node: Node, login: ListedLogin, made: datetime) -> SecretId:
    row = SecretId(
        node=node,
        atom_id=node.atom_id,
        attachment_revision=node.atom.attachment_revision,
        mount=login.mount,
        recipient_id=uuid.UUID(login.role),
        accessor=login.accessor,
        confirmed_at=made,
    )
    with transaction.atomic():
        row.save(force_insert=True)
        message = f"A login that {node} of {node.atom.name} got after the backup was adopted"
        kms_audit.record(node.atom, "ADOPT", message, actor=ACTOR, node=str(node.pk), mount=login.mount)
    return row
