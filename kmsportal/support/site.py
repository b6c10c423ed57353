"""The support staff's site: Django's admin, with the portal's own sign-in, and without anything that adds, edits or deletes."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest
from django.shortcuts import redirect, render
from django.urls import URLPattern, URLResolver, include, path
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts.models import SupportStaff


class SupportSite(AdminSite):
    """Whoever is not of the support staff gets 404: that these pages exist is nobody's business."""

    site_title = site_header = index_title = "Support"
    enable_nav_sidebar = False
    final_catch_all_view = False

    def has_permission(self, request: Any) -> bool:
        return request.user.is_authenticated and SupportStaff.includes(request.user)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        guarded = super().admin_view(view, cacheable)

        def staff_only(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if not self.has_permission(request):
                raise Http404
            return guarded(request, *args, **kwargs)

        return update_wrapper(staff_only, view)

    def get_app_list(self, request: Any, app_label: str | None = None) -> list[Any]:
        return []  # for the navigation of Django's own templates, which are not used

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """The front page and each record's own; nothing of what Django's site has besides."""
        patterns: list[URLPattern | URLResolver] = [path("", self.admin_view(require_safe(self.index)), name="index")]
        for model, page in self._registry.items():
            patterns.append(path(f"{model._meta.app_label}/{model._meta.model_name}/", include(page.urls)))
        return patterns

    def index(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """What can be looked up, and by what."""
        pages = {model._meta.label_lower: page for model, page in self._registry.items()}
        chosen = pages.get(request.GET.get("kind", ""))
        if chosen is not None:
            return redirect(f"{chosen.list_address()}?{urlencode({'q': request.GET.get('q', '')})}")  # type: ignore[attr-defined]
        return render(request, "support/index.html", {"pages": pages})


site = SupportSite(name="support")
