"""The API's routes. They bring their own authentication, so the sign-in that guards every page does not stand before them."""

from django.contrib.auth.decorators import login_not_required
from django.views.decorators.csrf import csrf_exempt

from atomapi.api import api
from atomapi.not_modified import answering_unchanged

urlpatterns, app_name, namespace = api.urls
for pattern in urlpatterns:
    view = pattern.callback
    if str(pattern.pattern) == "sync":
        view = csrf_exempt(answering_unchanged(view))  # type: ignore[arg-type]
    pattern.callback = login_not_required(view)  # type: ignore[type-var]
