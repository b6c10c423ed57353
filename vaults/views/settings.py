"""Saving an Atom's Key Management Service settings, and checking a properties file before that."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings as django_settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import HttpResponse, HttpResponseNotModified
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods
from django_htmx.http import trigger_client_event

from accounts.access import AccountRequest, account_member
from accounts.post_only import post_only
from accounts.privileges import READ, Privilege
from atoms.models import Atom
from atoms.pages import find_atom
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultError
from vaults.panel import settings
from vaults.panel.confirmation import Consequences, consequences_of
from vaults.panel.form import KmsSettingsForm, read_upload
from vaults.views.panel import form_context, panel_page


@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@account_member(*READ)
def kms_settings(request: AccountRequest, atom_id: object) -> HttpResponse:
    """The form. Saving answers with the form as it is stored; a refusal leaves every input in place."""
    atom = settings.refuse_forged(find_atom(request, atom_id, *settings.SETTINGS))
    if request.method == "GET":
        return _form_fragment(request, atom) if request.htmx else panel_page(request, atom)
    if not request.may(Privilege.ATOM_MANAGEMENT):
        raise PermissionDenied("Saving these settings needs the privilege Atom Management.")
    _refuse_huge(request)
    current, stored = settings.settings_of(atom), settings.file_of(atom)
    form = KmsSettingsForm(request.POST, request.FILES, atom=atom, current=current, stored=stored)
    if not form.is_valid():
        return _refused(request, atom, form, 422)
    # A stale form is told so first: what it would change is no longer what its sender saw.
    stale = form.cleaned_data["expected_revision"] != current.revision
    asked = None if stale else consequences_of(atom, current, form)
    if asked is None and not stale and form.cleaned_data["confirmed"]:
        form.add_error("file", "Choose the file again before you confirm: it was not kept.")
        return _refused(request, atom, form, 422)
    if asked is not None and form.cleaned_data["confirmed"] != asked.token:
        return _refused(request, atom, form, 422, consequences=asked)
    return _save(request, atom, form)


def _save(request: AccountRequest, atom: Atom, form: KmsSettingsForm) -> HttpResponse:
    try:
        saved = settings.save_kms_settings(
            atom,
            mode=form.mode,
            wrapped=form.cleaned_data["wrapped"],
            file=form.upload,
            expected_revision=form.cleaned_data["expected_revision"],
            actor=request.user,
        )
    except Refused as refusal:
        return _not_saved(request, atom, form, refusal)
    messages.success(request, "Saved." if saved.changed else "Nothing was changed, nothing was saved.")
    if not request.htmx:
        return redirect("vaults:kms_panel", request.account.code, atom.pk)
    context = form_context(request, find_atom(request, atom.pk, *settings.SETTINGS)) | {"just_saved": True}
    response = render(request, "vaults/_kms_settings.html", context)
    return trigger_client_event(response, "poll-now", after="settle")  # state, panel and tree follow at once


def _not_saved(request: AccountRequest, atom: Atom, form: KmsSettingsForm, refusal: Refused) -> HttpResponse:
    """Somebody was quicker, a field is wrong, the vault is away, or it cannot be done now."""
    if isinstance(refusal, settings.StaleSettings):
        return _refused(request, atom, form, 409, edits=refusal.edits)
    if isinstance(refusal, settings.SettingsInvalid):
        form.add_error(refusal.field, refusal.sentence)
        return _refused(request, atom, form, 422)
    failure = f"Nothing was saved. {refusal.sentence}"
    if isinstance(refusal, VaultError):
        return _refused(request, atom, form, 503, failure=f"{failure} Try again.")
    return _refused(request, atom, form, 422, failure=failure)


def _refused(
    request: AccountRequest,
    atom: Atom,
    form: KmsSettingsForm,
    status: int,
    *,
    failure: str = "",
    consequences: Consequences | None = None,
    edits: Sequence[object] | None = None,
) -> HttpResponse:
    """For htmx only the messages, so that the chosen file stays chosen; without script the page, and the file again."""
    context = {"form": form, "failure": failure, "consequences": consequences, "edits": edits, "failed": status}
    if not request.htmx:
        return panel_page(request, atom, status=status, asked=_asked(request), **context)
    response = render(
        request,
        "vaults/_kms_errors.html",
        form_context(request, atom) | context,
        status=422 if status == 503 else status,  # shown in place, not as the network banner
    )
    response.headers["HX-Retarget"] = "#kms-errors"
    response.headers["HX-Reswap"] = "outerHTML"
    return response


def _refuse_huge(request: AccountRequest) -> None:
    """Beyond the limit of the in-memory handler an upload would be dropped in silence. Raises RequestDataTooBig."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > django_settings.FILE_UPLOAD_MAX_MEMORY_SIZE:
        raise RequestDataTooBig("A properties file has at most 16 KiB.")


def _asked(request: AccountRequest) -> dict[str, bool]:
    """The switch and the box as they were sent: a page that is shown again loses nothing."""
    return {name: name in request.POST for name in ("byov", "wrapped")}


def _form_fragment(request: AccountRequest, atom: Atom) -> HttpResponse:
    context = form_context(request, atom)
    tag = str(context["form_etag"])
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    response = render(request, "vaults/_kms_settings.html", context)
    response.headers["ETag"] = tag
    return response


@sensitive_variables()
@sensitive_post_parameters()
@post_only("vaults:kms_panel")
@account_member(Privilege.ATOM_MANAGEMENT)
def kms_check(request: AccountRequest, atom_id: object) -> HttpResponse:
    """What the linter says about a chosen file, and a preview without its secrets. Nothing is kept."""
    atom = settings.refuse_forged(find_atom(request, atom_id, *settings.SETTINGS))
    _refuse_huge(request)
    file = request.FILES.get("file")
    reading = read_upload(file) if file else None
    if not request.htmx:
        return panel_page(request, atom, reading=reading, checked=True, asked=_asked(request))
    return render(request, "vaults/_kms_check.html", {"reading": reading, "atom": atom, "checked": file is not None})
