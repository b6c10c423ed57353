"""The first line of every view: who may see this account, and with which privileges.

A stranger gets 404 (that the account exists is nobody's business), a member without the privilege 403.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import structlog
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django_htmx.middleware import HtmxDetails

from accounts.models import Account, Membership, Role, User
from accounts.privileges import ADMINISTRATOR

P = ParamSpec("P")
log = structlog.get_logger()


class AccountRequest(HttpRequest):
    """A request of a member of `account`, as `@account_member` leaves it."""

    user: User
    account: Account
    membership: Membership
    privileges: frozenset[str]
    role_names: list[str]
    htmx: HtmxDetails

    def may(self, *privileges: str) -> bool:
        """Whether the member holds any of these."""
        return not self.privileges.isdisjoint(privileges)


View = Callable[Concatenate[AccountRequest, P], HttpResponseBase]


def account_member(*privileges: str) -> Callable[[View[P]], Callable[..., HttpResponseBase]]:
    """Turn the account code of the URL into `request.account`. Any one of `privileges` suffices; none means any member."""

    def decorate(view: View[P]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def guarded(request: Any, code: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            enter_account(request, code)
            if privileges and not request.may(*privileges):
                raise PermissionDenied("Your roles in this account do not include what this page needs.")
            return view(request, *args, **kwargs)

        guarded.privileges = privileges  # type: ignore[attr-defined]  # read by the access matrix test
        return guarded

    return decorate


def enter_account(request: Any, code: str) -> None:
    """Set account, membership, privileges and role_names on the request. Raises Http404 for a stranger."""
    membership = Membership.objects.select_related("account").filter(account__code=code, user=request.user).first()
    if membership is None:
        raise Http404("No such account.")
    request.account = membership.account.verified(pk=membership.account_id, code=code)
    request.membership = membership.verified(user_id=request.user.pk)
    roles = membership.roles_of_request = genuine_roles(membership)  # type: ignore[attr-defined]
    request.role_names = sorted(str(role) for role in roles)
    held: frozenset[str] = frozenset().union(*(role.privilege_set() for role in roles))
    request.privileges = held
    request.may = lambda *names: any(name in held for name in names)


def genuine_roles(membership: Membership) -> list[Role]:
    """The member's roles by rows that bear our signature; a forged one is logged and gives nothing. Asked once a request."""
    known: list[Role] | None = getattr(membership, "roles_of_request", None)
    if known is not None:
        return known
    if not membership.has_valid_signature():
        log.error("membership_forged", membership=str(membership.pk))
        return []
    roles = list(Role.objects.filter(pk__in=membership.roles))
    named = [role for role in roles if str(role.pk) in membership.roles]
    genuine = [role for role in named if role.may_be_given_in(membership.account_id)]
    if len(genuine) < len(roles):
        log.error("role_forged", membership=str(membership.pk), rows=len(roles) - len(genuine))
    return genuine


def is_administrator(membership: Membership) -> bool:
    return any(role.pk == ADMINISTRATOR for role in genuine_roles(membership))
