"""What the frame of every page shows."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from accounts.models import Account
from accounts.privileges import Privilege
from vaults.models import LoginAlarm

SECTIONS = {
    "build": (Privilege.BUILD,),
    "manage": (Privilege.ATOM_MANAGEMENT, Privilege.ATOM_MANAGEMENT_READ_ONLY),
    "keys": (Privilege.ATOM_MANAGEMENT, Privilege.ATOM_MANAGEMENT_READ_ONLY, Privilege.ACCOUNT_ADMIN),
    "operations": (Privilege.ATOM_MANAGEMENT, Privilege.ATOM_MANAGEMENT_READ_ONLY),
    "audit": (Privilege.VIEW_AUDIT_LOGS,),
}


def chosen_theme(request: HttpRequest) -> str:
    theme = request.COOKIES.get(settings.THEME_COOKIE_NAME, "system")
    return theme if theme in ("light", "dark") else "system"


def frame(request: Any) -> dict[str, Any]:
    """`theme`, `sends_mail`; and, for a signed-in user outside fragments, `frame`: accounts, sections, roles, the number of
    alarms and the banner."""
    context: dict[str, Any] = {
        "theme": chosen_theme(request),
        "sends_mail": not settings.EMAIL_BACKEND.endswith("dummy.EmailBackend"),
    }
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated or getattr(request, "htmx", False):
        return context
    held: frozenset[str] = getattr(request, "privileges", frozenset())
    context["frame"] = {
        "accounts": Account.of_member(user),
        "sections": {name for name, wanted in SECTIONS.items() if held.intersection(wanted)},
        "roles": getattr(request, "role_names", []),
        "alarms": _open_alarms(request, held),
        "banner": "" if settings.MFA_REQUIRED else "Demo: two-factor sign-in is off, and all parts run on one machine.",
    }
    return context


def _open_alarms(request: Any, held: frozenset[str]) -> int:
    """Readers that nobody enrolled, for the account's administrators on every page."""
    if Privilege.ACCOUNT_ADMIN not in held or getattr(request, "account", None) is None:
        return 0
    return LoginAlarm.objects.filter(account=request.account, closed_at=None).count()
