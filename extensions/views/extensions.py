"""The Environment Extensions dialog: one form, one Save, all or nothing."""

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts.access import AccountRequest, account_member
from accounts.privileges import READ, Privilege
from accounts.rows import RowTampered
from atoms.forms import LOSSES_CHANGED, ConfirmNameForm
from atoms.models import Environment
from atoms.pages import environment_page, find_environment
from extensions import actions
from extensions.dialog import ExtensionsForm
from extensions.letting_go import let_go, letting_go
from extensions.models import ExtensionValue, Field, listed_in, with_names
from extensions.removal import holders_of
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultError
from vaults.panel.status import account_status

FILTERS = ("all", "missing", "set")


@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@account_member(*READ)
def environment_extensions(request: AccountRequest, environment_id: object) -> HttpResponse:
    """Show what the environment holds (of secrets only that, since when and by whom), and save changes."""
    environment = find_environment(request, environment_id)
    if request.method == "GET":
        return _page(request, environment, _form(environment), 200)
    if not request.may(Privilege.ATOM_MANAGEMENT):
        return render(request, "403.html", status=403)
    form = _form(environment, request)
    if not form.is_valid():
        return _page(request, environment, form, 422)
    # A stale form is told so first: what it would remove is no longer what its sender saw.
    if form.unconfirmed and form.expected_revision() == environment.extensions_revision:
        return _page(request, environment, form, 422)
    try:
        saved = actions.save_extensions(
            environment,
            form.field_changes,
            form.property_changes,
            expected_revision=form.expected_revision() or 0,
            actor=request.user,
        )
    except Refused as refusal:
        return _refused(request, environment, form, refusal)
    messages.success(request, _said(environment, saved))
    if not request.htmx:
        return redirect("extensions:environment_extensions", request.account.code, environment.pk)
    environment.refresh_from_db()
    return _page(request, environment, _form(environment), 200)


@require_http_methods(["GET", "POST"])
@account_member(Privilege.ACCOUNT_ADMIN)
@reauthentication_required
def environment_let_go(request: AccountRequest, environment_id: object) -> HttpResponse:
    """Name what is not as it was saved, and give it up when that is confirmed."""
    environment = find_environment(request, environment_id)
    form = ConfirmNameForm(request.POST or None, expected=environment.name)
    if request.method == "POST" and form.is_valid():
        try:
            revision = let_go(environment, token=form.cleaned_data["lost"], actor=request.user)
        except actions.StaleRevision:
            form.add_error(None, LOSSES_CHANGED)
        except Refused as refusal:
            form.add_error(None, f"Nothing was let go of. {refusal.sentence}")
        else:
            messages.success(request, f"Saved as revision {revision}, without what was let go of.")
            return redirect("extensions:environment_extensions", request.account.code, environment.pk)
        environment.refresh_from_db()
    context = environment_page(request, environment, "extensions") | {"form": form, "found": letting_go(environment)}
    return render(request, "extensions/environment_let_go.html", context)


def _refused(request: AccountRequest, environment: Environment, form: ExtensionsForm, refusal: Refused) -> HttpResponse:
    """Why nothing was saved: somebody was quicker, the vault is away, or it cannot be done now."""
    if isinstance(refusal, actions.StaleRevision):
        return _page(request, environment, form, 409, saves=refusal.saves)
    form.form_error = f"Nothing was saved. {refusal.sentence}"
    if not isinstance(refusal, VaultError):
        return _page(request, environment, form, 422)
    form.form_error += " What you typed is still here; try again." if request.htmx else " Try again."
    return _page(request, environment, form, 503, retry=True)


def _said(environment: Environment, saved: actions.Saved) -> str:
    if saved.revision == environment.extensions_revision:
        return "Nothing was changed, nothing was saved."
    return f"Saved as revision {saved.revision}: {saved.changed} changed."


def _form(environment: Environment, request: AccountRequest | None = None) -> ExtensionsForm:
    """The dialog of an environment: seven queries, and as many again when somebody saves in between. Raises RowTampered."""
    revision = environment.extensions_revision
    try:
        return _form_of(environment, request)
    except RowTampered:
        environment.refresh_from_db(fields=["extensions_revision"])
        if environment.extensions_revision == revision:
            raise
    return _form(environment, request)


def _form_of(environment: Environment, request: AccountRequest | None) -> ExtensionsForm:
    extensible = Field.objects.filter(connection__account=environment.account_id, extensible=True)
    fields = extensible.order_by("connection__name", "position", "key").verified()
    rows = ExtensionValue.objects.filter(environment=environment).select_related("data_key").defer("sealed")
    values: dict[object, ExtensionValue] = {row.field_id: row for row in rows}
    properties = list(environment.process_properties.all())
    data = request.POST if request else None
    listing = with_names(listed_in(environment))
    return ExtensionsForm(fields, values, properties, listing, holders_of(environment), data)


def _page(
    request: AccountRequest,
    environment: Environment,
    form: ExtensionsForm,
    status: int,
    saves: list[actions.Save] | None = None,
    retry: bool = False,
) -> HttpResponse:
    """The page; for htmx the form when it was saved, and only the messages when it was not, so that nothing typed is lost."""
    shown = request.GET.get("show", "all")
    show = shown if shown in FILTERS else "all"
    chosen = request.GET.get("connection", "")
    if chosen not in ("", "properties", *(row.id for row in form.connections)) or form.errors or form.unconfirmed:
        chosen = ""
    form.narrow(show, chosen, sought := request.GET.get("q", "").strip()[:80])
    posted = form.expected_revision() if status != 200 else None
    context = environment_page(request, environment, "extensions") | {
        "form": form,
        "can_edit": request.may(Privilege.ATOM_MANAGEMENT),
        "can_let_go": request.may(Privilege.ACCOUNT_ADMIN),
        "inactive": account_status(request.account),
        "show": show,
        "chosen": chosen,
        "sought": sought,
        "properties_hidden": chosen not in ("", "properties") or show != "all" or bool(sought),
        # A refused form keeps its own revision: what changed meanwhile has to be loaded before anything can be saved.
        "revision": environment.extensions_revision if posted is None else posted,
        "saves": saves,
        "retry": retry,
        "failed": status != 200,
    }
    if not request.htmx:
        return render(request, "extensions/environment_extensions.html", context, status=status)
    template = "extensions/_extensions_form.html" if status == 200 else "extensions/_extensions_errors.html"
    # htmx swaps 422 and 409; a 503 is shown the same way, not as the network banner.
    response = render(request, template, context, status=422 if status == 503 else status)
    if status != 200:
        response.headers["HX-Retarget"] = "#extensions-errors"
        response.headers["HX-Reswap"] = "outerHTML"
    return response
