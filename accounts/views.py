"""Pages about who: the list of one's accounts, the look, the audit log."""

from urllib.parse import urlencode

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.forms import AuditFilterForm, ThemeForm
from accounts.models import Account
from accounts.post_only import post_only
from accounts.privileges import Privilege


@require_safe
def account_list(request: HttpRequest) -> HttpResponse:
    """The front door: straight into the only account, else a choice."""
    accounts = Account.of_member(request.user)  # type: ignore[arg-type]
    if len(accounts) == 1:
        return redirect("atoms:atom_management", accounts[0].code)
    return render(request, "accounts/account_list.html", {"accounts": accounts})


@post_only("accounts:account_list")
def theme(request: HttpRequest) -> HttpResponse:
    """Remember light, dark or system in a cookie, so that the server renders it without a flash."""
    form = ThemeForm(request.POST)
    target = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(target, {request.get_host()}):
        target = "/"
    response = redirect(target)
    if form.is_valid():
        response.set_cookie(
            settings.THEME_COOKIE_NAME,
            form.cleaned_data["theme"],
            max_age=365 * 86400,
            samesite="Lax",
            secure=request.is_secure(),
            httponly=True,
        )
    return response


@require_safe
@account_member(Privilege.VIEW_AUDIT_LOGS)
def audit_log(request: AccountRequest) -> HttpResponse:
    """Who did what and when in this account, newest first."""
    form = AuditFilterForm(request.GET)
    wanted = form.cleaned_data if form.is_valid() else {}
    entries = request.account.audit_entries.all()
    if text := wanted.get("q"):
        entries = entries.filter(Q(message__icontains=text) | Q(actor_name__icontains=text))
    if kind := wanted.get("type"):
        entries = entries.filter(type=kind)
    page = Paginator(entries, 50).get_page(wanted.get("page") or 1)
    query = urlencode({name: wanted[name] for name in ("q", "type") if wanted.get(name)})
    context = {"section": "audit", "form": form, "page": page, "query": query}
    return render(request, "accounts/audit_log.html", context)
