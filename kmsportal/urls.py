"""Every address of the portal; each room lists its own."""

from django.http import Http404
from django.urls import include, path
from django.views.defaults import page_not_found

from kmsportal import health
from kmsportal.support.records import site as support

urlpatterns = [
    path("", include("accounts.urls")),
    path("", include("operations.urls")),
    path("", include("atoms.urls")),
    path("", include("vaults.urls")),
    path("", include("extensions.urls")),
    path("auth/email/", page_not_found, {"exception": Http404()}),  # addresses are the operator's to change
    path("auth/", include("allauth.urls")),
    path("api/atom/v1/", include("atomapi.urls", namespace="atomapi")),
    path("support/", support.urls),
    path("live", health.live),
    path("ready", health.ready),
    path("metrics", health.metrics),
]

handler400 = "kmsportal.errors.bad_request"
