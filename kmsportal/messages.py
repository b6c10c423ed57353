"""Messages between two pages: in a cookie, signed, under a name of our own."""

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage


class NamedCookieStorage(CookieStorage):
    """Django's, whose name no setting chooses: with the prefix `__Host-` no other site of the domain can set it."""

    cookie_name = settings.MESSAGES_COOKIE_NAME
