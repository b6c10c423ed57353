"""The shape of every record's pages: a list that stays empty until something is looked for, the facts, and a few acts."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

import orjson
import structlog
from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db import transaction
from django.db.models import ForeignKey, JSONField, Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods, require_safe

from accounts import audit
from accounts.models import Account, User
from kmscore.refused import Refused

log = structlog.get_logger()
FORGED = "Changed outside the portal; it grants nothing"


@dataclass(frozen=True, slots=True)
class Act:
    """Something the support staff may do to a record.

    name: in the address and the audit row. consequences: sentences about the record. refusal: why not now, "" when it can
    be done. do: takes the record and who does it; raises operations.actions.Refused.
    """

    name: str
    verb: str
    consequences: Callable[[Any], Sequence[str]]
    refusal: Callable[[Any], str]
    do: Callable[[Any, User], object]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a record. shape: text, when, code or link."""

    label: str
    value: object
    shape: str = "text"
    address: str = ""


class SupportPage(ModelAdmin):  # type: ignore[type-arg]  # Django's own takes no argument at run time
    """A record the support staff may look at.

    shown: columns and methods of this class, in their order. withheld: the columns that are never shown; a column in neither
    fails a test, so that each new one is decided about. by_id, by_text: lookups a search compares with, whole and never in
    part. account_at: where its account is. leads_to: labels of models whose lists are found by this record's id.
    """

    shown: ClassVar[tuple[str, ...]]
    withheld: ClassVar[tuple[str, ...]] = ()
    by_id: ClassVar[tuple[str, ...]] = ("pk", "account_id")
    by_text: ClassVar[tuple[str, ...]] = ("account__code",)
    account_at: ClassVar[str] = "account"
    leads_to: ClassVar[tuple[str, ...]] = ()
    acts: ClassVar[tuple[Act, ...]] = ()
    noun, nouns = "", ""  # where Django's words for the model are not ours
    found_by = "its id, or the id or code of its account"

    actions = None
    list_per_page = list_max_show_all = 25
    show_full_result_count = False
    sortable_by = ()
    view_on_site = False
    change_list_template = "support/record_list.html"
    change_form_template = "support/record.html"

    def __init__(self, model: Any, admin_site: Any) -> None:
        super().__init__(model, admin_site)
        self.noun = self.noun or str(self.opts.verbose_name)
        self.nouns = self.nouns or str(self.opts.verbose_name_plural)

    # -- what may be done: look --------------------------------------------------------------------------------------

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True  # of the support staff, which the site has made sure of

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        return False  # an address that filters by a column could guess what the column holds

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ()  # the form machinery is given nothing; `facts` shows what is shown

    # -- addresses ---------------------------------------------------------------------------------------------------

    def _name(self, what: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{what}"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        urls = [
            path("", view(require_safe(self.changelist_view)), name=self._name("changelist")),
            path("<uuid:object_id>/", view(require_safe(self.change_view)), name=self._name("change")),
        ]
        for act in self.acts:
            doing = require_http_methods(["GET", "POST"])(reauthentication_required(partial(self.act_view, act)))
            urls.append(path(f"<uuid:object_id>/{act.name}/", view(doing), name=self._name(act.name)))
        return urls

    def list_address(self) -> str:
        return reverse(f"support:{self._name('changelist')}")

    def address(self, row: Model, what: str = "change") -> str:
        return reverse(f"support:{self._name(what)}", args=[row.pk])

    # -- looking -----------------------------------------------------------------------------------------------------

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        return self.found(queryset, search_term.strip()), False

    def found(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        """The rows of exactly this id, or of this name; none for an empty or unknown one."""
        try:
            wanted, lookups = str(uuid.UUID(text)), self.by_id
        except ValueError:
            wanted, lookups = text, tuple(f"{name}__iexact" for name in self.by_text)
        if not wanted or not lookups:
            return queryset.none()
        condition = Q()
        for lookup in lookups:
            condition |= Q(**{lookup: wanted})
        return queryset.filter(condition)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        response: Any = super().changelist_view(request, {"page": self})
        if not hasattr(response, "context_data"):  # a page number that is none
            raise Http404
        rows = list(response.context_data["cl"].result_list)
        response.context_data["rows"] = [(self.address(row), self._facts(row, self.list_display)) for row in rows]
        self._tell(request, self._accounts(rows), "VIEW", f"Support listed {self.nouns}")
        return response

    def get_object(self, request: HttpRequest, object_id: Any, from_field: Any = None) -> Any:
        row = self.get_queryset(request).filter(pk=object_id).first()
        if row is None:
            raise Http404
        return row

    def change_view(self, request: HttpRequest, object_id: Any, form_url: str = "", extra_context: Any = None) -> Any:
        response: Any = super().change_view(request, str(object_id), extra_context={"page": self})
        row = response.context_data["original"]
        response.context_data |= {
            "facts": self._facts(row, self.shown),
            "leads": self._leads(row),
            "doable": self._doable(row),
        }
        self._tell(request, self._accounts([row]), "VIEW", f"Support looked at {self._named(row)}", row)
        return response

    def _doable(self, row: Model) -> list[tuple[str, str, str]]:
        return [(act.verb, self.address(row, act.name), act.refusal(row)) for act in self.acts]

    def _leads(self, row: Model) -> list[tuple[str, str, int]]:
        """(what, address of the list, how many) of the records that belong to this one."""
        leads = []
        for model, page in self.admin_site._registry.items():
            if model._meta.label_lower in self.leads_to and isinstance(page, SupportPage):
                count = page.found(model._base_manager.all(), str(row.pk)).count()
                leads.append((capfirst(page.nouns), f"{page.list_address()}?q={row.pk}", count))
        return leads

    def _facts(self, row: Model, names: Iterable[Any]) -> list[Fact]:
        return [self._fact(row, str(name)) for name in names]

    def _fact(self, row: Model, name: str) -> Fact:
        own = getattr(type(self), name, None)
        if own is not None:
            return Fact(capfirst(name.replace("_", " ")), *_shaped(getattr(self, name)(row)))
        field: Any = row._meta.get_field(name)
        label = capfirst(field.verbose_name)
        value = getattr(row, name)
        if isinstance(field, ForeignKey):
            return Fact(label, getattr(value, "email", value), *self._link(value))
        if isinstance(field, JSONField):
            return Fact(label, orjson.dumps(value, option=orjson.OPT_INDENT_2).decode(), "code")
        return Fact(label, *_shaped(_worded(row, field, value)))

    def _link(self, row: Model | None) -> tuple[str, str]:
        page = self.admin_site._registry.get(type(row)) if row is not None else None  # type: ignore[arg-type]
        return ("link", page.address(row)) if isinstance(page, SupportPage) and row is not None else ("text", "")

    # -- acting ------------------------------------------------------------------------------------------------------

    def act_view(self, act: Act, request: Any, object_id: uuid.UUID) -> HttpResponse:
        """What follows, and then the act: with its own audit row and the support staff's in one transaction."""
        row = self.get_object(request, object_id)
        refusal = act.refusal(row)
        if request.method == "POST" and not refusal:
            try:
                with transaction.atomic():
                    act.do(row, request.user)
                    self._tell(request, self._accounts([row]), "ACT", f"Support: {act.verb}, {self._named(row)}", row)
                messages.success(request, f"{act.verb}: done.")
            except Refused as refused:
                messages.error(request, str(refused))
        if request.method == "POST":
            return redirect(self.address(row))
        self._tell(request, self._accounts([row]), "VIEW", f"Support looked at {self._named(row)}", row)
        facts = {"act": act, "original": row, "page": self, "refusal": refusal, "consequences": act.consequences(row)}
        return render(request, "support/act.html", facts | {"record_address": self.address(row)})

    # -- telling -----------------------------------------------------------------------------------------------------

    def _named(self, row: Model) -> str:
        return f"{self.noun} {row}"

    def _accounts(self, rows: Iterable[Model]) -> dict[Account, int]:
        """The accounts these rows are of, and how many are of each."""
        counts: dict[Account, int] = {}
        for row in rows:
            account: Any = attrgetter(self.account_at)(row) if self.account_at else row
            if account is not None:
                counts[account] = counts.get(account, 0) + 1
        return counts

    def _tell(
        self, request: Any, accounts: dict[Account, int], action: str, message: str, row: Model | None = None
    ) -> None:
        """An audit row for each account. A record of no account is told of in the log."""
        if not accounts:
            log.info("support_looked", user=str(request.user.pk), record=self.opts.label, found=int(row is not None))
        with transaction.atomic():
            for account, count in sorted(accounts.items(), key=lambda item: item[0].pk):  # one order: they are locked
                audit.record(
                    account,
                    actor=request.user,
                    type="support",
                    action=action,
                    subject_id=row.pk if row is not None else "",
                    message=message,
                    properties={"record": self.opts.label, "rows": count},
                )


def _worded(row: Model, field: Any, value: object) -> object:
    if field.choices:
        return getattr(row, f"get_{field.name}_display")()
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return value


def _shaped(value: object) -> tuple[object, str]:
    """(value, shape)"""
    if isinstance(value, datetime):
        return value, "when"
    return ("None" if value is None or value == "" else value), "text"
