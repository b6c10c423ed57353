"""The policy and the commands for the customer's vault, made for one Atom, to copy or download."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlencode

from django import forms
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import AccountRequest, account_member
from accounts.privileges import READ
from atoms.models import Atom
from atoms.pages import atom_page, find_atom
from kmscore.byov import policy
from kmscore.byov.customer import holds_placeholder, normalised_namespace
from kmscore.byov.policy import Need
from vaults.panel.settings import SETTINGS, file_of, refuse_forged, settings_of

NAMESPACE = r"\A[A-Za-z0-9_./@:+=,~-]{0,128}\Z"


class PolicyForm(forms.Form):
    """What decides the texts; a GET form, so that an address can be passed on."""

    wrapped = forms.BooleanField(required=False, label="Wrapped Encryption Key")
    forbid_plaintext = forms.BooleanField(required=False, label="Forbid plaintext data keys")
    cli = forms.ChoiceField(choices=[("vault", "vault"), ("bao", "bao")], required=False, label="Command")
    namespace = forms.RegexField(
        NAMESPACE,
        required=False,
        label="Namespace",
        error_messages={"invalid": "A namespace has letters, digits and . _ - / @ : + = , ~ only."},
    )
    shown = forms.CharField(required=False, widget=forms.HiddenInput)


FILES: dict[str, Callable[[Need], str]] = {
    "policy.hcl": policy.policy_hcl,
    "policy.json": policy.policy_json,
    "vault.sh": lambda need: policy.script(need, "vault"),
    "bao.sh": lambda need: policy.script(need, "bao"),
    "main.tf": policy.terraform,
}


@require_safe
@account_member(*READ)
def kms_policy(request: AccountRequest, atom_id: object) -> HttpResponse:
    """Everything to run on the customer's side."""
    atom = refuse_forged(find_atom(request, atom_id, *SETTINGS))
    form = _form(request, atom)
    valid = form.is_valid()
    need = _need(form, atom)
    cli: Literal["vault", "bao"] = "bao" if form.cleaned_data.get("cli") == "bao" else "vault"
    context = atom_page(request, atom, "kms") | {
        "form": form,
        "need": need,
        "cli": cli,
        "commands": policy.commands(need, cli, _uri(atom)) if valid else [],
        "script_name": f"{cli}.sh",
        "hcl": policy.policy_hcl(need),
        "json": policy.policy_json(need),
        "terraform": policy.terraform(need),
        "query": _query(need),
    }
    return render(request, "vaults/kms_policy.html", context)


@require_safe
@account_member(*READ)
def kms_policy_file(request: AccountRequest, atom_id: object, name: str) -> HttpResponse:
    """One of FILES as a download."""
    atom = refuse_forged(find_atom(request, atom_id, *SETTINGS))
    make = FILES.get(name)
    form = _form(request, atom)
    if make is None or not form.is_valid():
        raise Http404("No such file.")
    disposition = f'attachment; filename="{atom.pk}-{name}"'
    return HttpResponse(
        make(_need(form, atom)),
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": disposition},
    )


def _form(request: AccountRequest, atom: Atom) -> PolicyForm:
    """As asked; at first as the Atom's settings are."""
    if "shown" in request.GET:
        return PolicyForm(request.GET)
    settings, stored = settings_of(atom), file_of(atom)
    namespace = str(stored.facts.get("namespace", "")) if stored else ""
    usable = re.match(NAMESPACE, namespace) and not holds_placeholder(namespace)
    known = normalised_namespace(namespace) if usable else ""
    first = {"wrapped": settings.wrapped, "forbid_plaintext": False, "cli": "vault", "namespace": known, "shown": "1"}
    return PolicyForm(first)


def _need(form: PolicyForm, atom: Atom) -> Need:
    asked = form.cleaned_data
    wrapped = bool(asked.get("wrapped"))
    return Need(
        account_code=atom.account.code,
        container_id=str(atom.pk),
        wrapped=wrapped,
        forbid_plaintext=wrapped and bool(asked.get("forbid_plaintext")),
        namespace=normalised_namespace(asked.get("namespace") or ""),
    )


def _uri(atom: Atom) -> str:
    """Where the stored file says the vault is."""
    stored = file_of(atom)
    return str(stored.facts.get("uri", "")) if stored else ""


def _query(need: Need) -> str:
    flags = {"wrapped": need.wrapped, "forbid_plaintext": need.forbid_plaintext}
    return urlencode({"shown": "1", "namespace": need.namespace} | {name: "on" for name, on in flags.items() if on})
