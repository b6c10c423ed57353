"""The API's routes. They bring their own authentication, so the sign-in that guards every page does not stand before them."""

from django.contrib.auth.decorators import login_not_required

from atomapi.api import api

urlpatterns, app_name, namespace = api.urls
for pattern in urlpatterns:
    pattern.callback = login_not_required(pattern.callback)  # type: ignore[type-var]
