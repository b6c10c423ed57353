"""Changes to who may do what."""

from django.db import transaction

from accounts import audit
from accounts.access import is_administrator
from accounts.models import Account, Membership, Role, SupportStaff, User
from accounts.privileges import ADMINISTRATOR
from accounts.rows import by_clock, lock_in_order


class UnknownRole(Exception):
    """The role is not one of this account's."""


class LastAdministrator(Exception):
    """The account would have no Administrator any more, and nobody who decides what only one may."""


@transaction.atomic
def create_account(name: str, *, code: str | None = None, actor: User | str) -> Account:
    """A new account with a code of its own."""
    account = Account(name=name, code=code or Account.new_code(name))
    account.full_clean()
    account.save(force_insert=True)
    audit.record(
        account, actor=actor, type="account", action="ADD", subject_id=account.pk, message=f"Account {name} created"
    )
    return account


@transaction.atomic
def add_member(account: Account, user: User, roles: list[Role], *, actor: User | str) -> Membership:
    """Make a user a member with these roles, or set a member's roles to exactly these.

    Raises UnknownRole, LastAdministrator, RowTampered.
    """
    if any(role.account_id not in (None, account.pk) for role in roles):
        raise UnknownRole("A role of another account cannot be given here.")
    for row in (account, user, *roles):
        row.verified()
    lock_in_order(Account.objects.filter(pk=account.pk))  # of two that take each other's role, one is the last
    membership = Membership.objects.filter(account=account, user=user).first()
    if membership is not None and not any(role.pk == ADMINISTRATOR for role in roles) and _is_last(membership):
        raise LastAdministrator(f"{user.email} is the only Administrator of {account.code}: make another one first.")
    if membership is not None and not membership.has_valid_signature():
        membership.delete()  # nothing that it says is taken over
        membership = None
    if membership is None:
        membership = Membership(pk=Membership.id_of(account, user), account=account, user=user)
        membership.generation = by_clock()
    membership.roles = sorted(str(role.pk) for role in roles)
    membership.save()
    names = ", ".join(map(str, roles)) or "no role"
    audit.record(
        account,
        actor=actor,
        type="user",
        action="ADD",
        subject_id=user.pk,
        message=f"{user.email} is a member with {names}",
    )
    return membership


def _is_last(membership: Membership) -> bool:
    """Whether this is the only Administrator of its account who may sign in."""
    others = Membership.objects.filter(account=membership.account_id, user__is_active=True).exclude(pk=membership.pk)
    return is_administrator(membership) and not any(map(is_administrator, others))


@transaction.atomic
def add_support_staff(user: User) -> SupportStaff:
    """Let somebody into the support staff's pages. An operator's act: it concerns no account's audit log."""
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    row = SupportStaff.objects.filter(user=user).first()
    if row is None or not row.has_valid_signature():
        SupportStaff.objects.filter(user=user).delete()
        row = SupportStaff(pk=SupportStaff.id_of(user), user=user, generation=by_clock())
        row.save(force_insert=True)
    return row.verified()


@transaction.atomic
def remove_support_staff(user: User) -> None:
    """Their pages are gone with their next request."""
    SupportStaff.objects.filter(user=user).delete()
    SupportStaff.outdate(SupportStaff.id_of(user))
    user.is_staff = False
    user.save(update_fields=["is_staff"])
