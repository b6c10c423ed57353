"""Mail goes to a server whose certificate is always checked: by the system's authorities, or by those of KMS_EMAIL_CA."""

import ssl

from django.conf import settings
from django.core.mail.backends import smtp
from django.utils.functional import cached_property

from kmscore.vaultclient.tls import client_context


class EmailBackend(smtp.EmailBackend):
    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        return client_context(settings.EMAIL_CA) if settings.EMAIL_CA else ssl.create_default_context()
