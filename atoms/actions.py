"""Changes to environments and Atoms. What they need at the vault is asked for as operations, by name."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from accounts import audit, quota
from accounts.models import Account, AuditEntry, Role, User
from atoms.models import Atom, Environment, InstallerToken, Node, token_hash
from atoms.revocation import revoke_node
from operations import actions as operations

_PLACE = ("attached_to", "attached_at", "attached_by", "attachment_revision")


class EnvironmentInUse(Exception):
    """Atoms are attached to the environment, so it cannot be deleted."""


class EnvironmentChanged(Exception):
    """The environment was saved meanwhile: it holds something else than was confirmed."""


class RolesChanged(Exception):
    """Who sees the environment was changed meanwhile; nothing was written. `edit`: by whom and when, where that is known."""

    def __init__(self, edit: AuditEntry | None) -> None:
        super().__init__("The roles with access were changed meanwhile.")
        self.edit = edit


class NoFreeNode(Exception):
    """An Atom or a Cloud has one node, and it is enrolled."""


# -- environments -------------------------------------------------------------------------------------------------------


@transaction.atomic
def create_environment(account: Account, *, name: str, classification: str, actor: User) -> Environment:
    """Raises Refused (quota_reached)."""
    quota.check(account, "environments", account.environments.all())
    environment = Environment(account=account, name=name, classification=classification)
    environment.save(force_insert=True)
    title = f"Make the keys of environment {name}"
    _request_keys(environment, "vaults.provision_environment", title, actor, environment)
    _audit(account, actor, "as.environment", "ADD", environment, f"Environment {name} created")
    return environment


@transaction.atomic
def rename_environment(environment: Environment, *, name: str, actor: User) -> None:
    old, environment.name = Environment.objects.get(pk=environment.pk).name, name
    environment.save(update_fields=["name"])
    _audit(
        environment.account,
        actor,
        "as.environment",
        "UPDATE",
        environment,
        f"Environment {old} renamed to {name}",
        "NAME",
    )


@transaction.atomic
def delete_environment(environment: Environment, *, expected_revision: int, actor: User) -> None:
    """Delete an environment and what it holds as of that revision.

    Raises EnvironmentInUse while Atoms are attached, EnvironmentChanged when it is at another revision.
    """
    locked = Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
    if locked.extensions_revision != expected_revision:
        raise EnvironmentChanged
    _audit(
        environment.account, actor, "as.environment", "DELETE", environment, f"Environment {environment.name} deleted"
    )
    if locked.atoms.exists():  # asked under the account's lock, under which Atoms are made with an environment
        raise EnvironmentInUse("Detach its Atoms first.")
    locked.delete()


@transaction.atomic
def set_environment_roles(
    environment: Environment, roles: list[Role], *, expected: str | None = None, actor: User
) -> None:
    """Limit who sees the environment to members with one of these roles (and Administrators); none means everybody.

    expected: Environment.seen_by as it was when this was decided, None when nobody asks. Raises RolesChanged.
    """
    locked = Environment.objects.select_for_update(no_key=True).get(pk=environment.pk).verified(pk=environment.pk)
    if expected not in (None, locked.seen_by):
        raise RolesChanged(_last_choice_of_roles(environment))
    environment.roles = sorted(str(role.pk) for role in roles)
    environment.save(update_fields=["roles"])
    names = ", ".join(role.name for role in roles) or "every member"
    _audit(
        environment.account,
        actor,
        "as.environment",
        "UPDATE",
        environment,
        f"{environment.name} is seen by {names}",
        "ROLE",
    )


def _last_choice_of_roles(environment: Environment) -> AuditEntry | None:
    entries = environment.account.audit_entries.filter(type="as.environment", modifier="ROLE")
    return entries.filter(subject_id=str(environment.pk)).first()


# -- Atoms --------------------------------------------------------------------------------------------------------------


@transaction.atomic
def create_atom(account: Account, *, name: str, type: str, environment: Environment | None, actor: User) -> Atom:
    """Raises Refused (quota_reached)."""
    quota.check(account, "Atoms", account.atoms.all())
    atom = Atom(account=account, name=name, type=type, created_by=actor)
    if environment is not None:
        _refuse_foreign(atom, environment)
        _place(atom, environment, actor)
    atom.save(force_insert=True)
    _request_keys(atom, "vaults.provision_atom", f"Make the keys of {name}", actor, environment)
    _audit(account, actor, "as.atom", "ADD", atom, f"{atom.get_type_display()} {name} created")
    if environment is not None:
        _audit_attached(atom, environment, actor)
    return atom


@transaction.atomic
def rename_atom(atom: Atom, *, name: str, actor: User) -> None:
    old, atom.name = Atom.objects.get(pk=atom.pk).name, name
    atom.save(update_fields=["name"])
    _audit(atom.account, actor, "as.atom.properties", "SAVE", atom, f"{old} renamed to {name}")


@transaction.atomic
def attach(atom: Atom, environment: Environment, *, actor: User) -> None:
    """Attach an Atom, or move it: its containers get credentials for this environment and lose those for the other."""
    locked = _locked(atom)  # two moves at once happen one after the other
    _refuse_foreign(locked, environment)
    current = locked.environment
    if current is not None and current.pk == environment.pk:
        return
    if current is not None:
        _leave(locked, current, actor)
    _place(locked, environment, actor)
    locked.save(update_fields=_PLACE)
    # What was asked for while it was attached nowhere tells its name, too.
    atom.account.operations.about(atom.pk).filter(environment_id=None).update(environment_id=environment.pk)
    _audit_attached(atom, environment, actor)


def _audit_attached(atom: Atom, environment: Environment, actor: User) -> None:
    message = f"{atom.name} attached to {environment.name}: its containers may read what the environment holds"
    _audit(
        atom.account, actor, "as.environment", "ATTACH", atom, message, properties={"environment": str(environment.pk)}
    )


@transaction.atomic
def detach(atom: Atom, *, actor: User) -> None:
    """Its containers lose the environment's credentials, and wipe what they hold at their next contact."""
    locked = _locked(atom)
    current = locked.environment
    if current is not None:
        _leave(locked, current, actor)
        _place(locked, None, actor)
        locked.save(update_fields=_PLACE)


def _locked(atom: Atom) -> Atom:
    rows = Atom.objects.select_for_update(of=("self",), no_key=True).select_related("attached_to")
    return rows.get(pk=atom.pk).verified(pk=atom.pk)


def _refuse_foreign(atom: Atom, environment: Environment) -> None:
    if atom.account_id != environment.verified().account_id:
        raise ValueError("An Atom is attached to an environment of its own account.")


def _place(atom: Atom, environment: Environment | None, actor: User) -> None:
    atom.attached_to, atom.attached_at, atom.attached_by = None, None, None
    if environment is not None:
        atom.attached_to, atom.attached_at, atom.attached_by = environment, timezone.now(), actor
    atom.attachment_revision += 1


def _leave(atom: Atom, environment: Environment, actor: User) -> None:
    operations.request(
        "vaults.leave_environment",
        account=atom.account,
        subject_id=atom.pk,
        environment_id=environment.pk,
        title=f"Take the credentials for its former environment from {atom.name}",
        actor=actor,
    )
    message = f"{atom.name} detached from {environment.name}"
    _audit(
        atom.account, actor, "as.environment", "DETACH", atom, message, properties={"environment": str(environment.pk)}
    )


@transaction.atomic
def delete_atom(atom: Atom, *, actor: User) -> None:
    """Forget an Atom: its containers lose every credential. Its keys stay in the vault until they are shredded."""
    locked = Atom.objects.select_for_update(no_key=True).filter(pk=atom.pk).first()
    if locked is None and Atom.has_ended(atom.pk):
        return  # somebody else was quicker
    environment_id = (locked or atom).attached_to_id
    Atom.objects.filter(pk=atom.pk).delete()
    Atom.end(atom.pk)
    operations.request(
        "vaults.forget_atom",
        account=atom.account,
        subject_id=atom.pk,
        environment_id=environment_id,
        title=f"Destroy the vault credentials of {atom.name}",
        actor=actor,
    )
    _audit(atom.account, actor, "as.atom", "DELETE", atom, f"{atom.get_type_display()} {atom.name} deleted")


def has_free_node(atom: Atom) -> bool:
    """Whether one more machine may enrol: a Molecule has any number of nodes, an Atom or a Cloud one."""
    return atom.type == Atom.Type.MOLECULE or not atom.nodes.filter(state=Node.State.ENROLLED).exists()


# -- installer tokens ---------------------------------------------------------------------------------------------------


@transaction.atomic
def create_installer_token(atom: Atom, *, minutes: int, actor: User) -> tuple[InstallerToken, str]:
    """A token for one more node; earlier unused ones are withdrawn. Returns the row and the token, of which only
    a hash is kept.

    Raises NoFreeNode for an Atom or a Cloud that has its node.
    """
    locked = _locked(atom)
    if not has_free_node(locked):
        raise NoFreeNode(f"{atom.name} has its node. Revoke that one first, or make a Molecule for several nodes.")
    withdraw_open_tokens(atom, actor=actor)
    token = InstallerToken.new_token(atom.type)
    row = InstallerToken(
        account_id=atom.account_id,
        atom=atom,
        token_hash=token_hash(token),
        expires_at=timezone.now() + timedelta(minutes=minutes),
        created_by=actor,
    )
    row.save(force_insert=True)
    locked.installer_token = row.pk
    locked.save(update_fields=["installer_token"])
    _audit(
        atom.account,
        actor,
        "as.installer",
        "ADD",
        atom,
        f"Installer token for {atom.name} made, valid {minutes} minutes",
    )
    return row, token


@transaction.atomic
def withdraw_open_tokens(atom: Atom, *, actor: User) -> int:
    """Withdraw what an Atom has of unused installer tokens, which is one at most. Returns how many."""
    _locked(atom)
    tokens = list(atom.installer_tokens.open().select_for_update(no_key=True))
    for token in tokens:
        withdraw_installer_token(token, actor=actor)
    return len(tokens)


@transaction.atomic
def withdraw_installer_token(token: InstallerToken, *, actor: User) -> None:
    locked = _locked(token.atom)
    if locked.installer_token == token.pk:
        locked.installer_token = None
        locked.save(update_fields=["installer_token"])
    token.withdrawn_at = timezone.now()
    token.save(update_fields=["withdrawn_at"])
    if token.node is not None and token.node.state == Node.State.ENROLLING:
        revoke_node(token.node, actor=actor)
    _audit(
        token.atom.account,
        actor,
        "as.installer",
        "DELETE",
        token.atom,
        f"Installer token for {token.atom.name} withdrawn",
    )


def _request_keys(
    subject: Environment | Atom, kind: str, title: str, actor: User, environment: Environment | None
) -> None:
    """Have the vault make them. Without KMS there is nothing to make; activating it asks for all of them."""
    if not hasattr(subject.account, "kms"):
        return
    operations.request(
        kind,
        account=subject.account,
        subject_id=subject.pk,
        environment_id=environment.pk if environment else None,
        title=title,
        actor=actor,
    )


def _audit(
    account: Account,
    actor: User | str,
    type: str,
    action: str,
    subject: Environment | Atom,
    message: str,
    modifier: str = "NONE",
    properties: dict[str, str] | None = None,
) -> None:
    audit.record(
        account,
        actor=actor,
        type=type,
        action=action,
        modifier=modifier,
        subject_id=subject.pk,
        message=message,
        properties=properties,
    )
