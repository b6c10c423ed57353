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

from accounts.models import Account, Membership, MembershipRole, User
from accounts.privileges import ADMINISTRATOR
from accounts.rows import RowTampered

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
    if membership.user_id != request.user.pk or membership.account_id != membership.account.pk:
        raise RowTampered("Another membership was found than the one that was looked for.")
    request.account, request.membership = membership.account.verified(code=code), membership
    roles = membership.roles_of_request = genuine_roles(membership)  # type: ignore[attr-defined]
    request.role_names = sorted(row.role.name for row in roles)
    held: frozenset[str] = frozenset().union(*(row.role.privilege_set() for row in roles))
    request.privileges = held
    request.may = lambda *names: any(name in held for name in names)


def genuine_roles(membership: Membership) -> list[MembershipRole]:
    """The member's role rows that bear our signature; a forged one is logged and gives nothing. Asked once a request."""
    known: list[MembershipRole] | None = getattr(membership, "roles_of_request", None)
    if known is not None:
        return known
    rows = list(membership.membership_roles.select_related("role"))
    genuine = [row for row in rows if row.holds_for(membership)]
    if len(genuine) < len(rows):
        log.error("role_row_forged", membership=str(membership.pk), rows=len(rows) - len(genuine))
    return genuine


def is_administrator(membership: Membership) -> bool:
    return any(row.role_id == ADMINISTRATOR for row in genuine_roles(membership))
