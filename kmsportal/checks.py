"""System checks: settings that would make the promise hollow are refused before the portal starts."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import Error, register

from kmscore.byov.customer import is_loopback


@register()
def production_is_not_the_demo(**_: Any) -> list[Error]:
    """The embedded stack runs under one user id: a demo, not a boundary between its parts (docs/threat-model.md)."""
    if not settings.PRODUCTION:
        return []
    errors = []
    for name in ("VAULT_ADDR", "VAULT_PUBLIC_ADDR", "PORTAL_URL"):
        address = urlsplit(getattr(settings, name))
        if address.scheme != "https":
            errors.append(Error(f"{name} must be an https address in production.", id="kmsportal.E001"))
    if is_loopback(urlsplit(settings.VAULT_ADDR).hostname or ""):
        errors.append(
            Error("VAULT_ADDR is this machine: the embedded vault is for the demo only.", id="kmsportal.E002")
        )
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        errors.append(Error("Production needs PostgreSQL (KMS_DATABASE_URL).", id="kmsportal.E003"))
    for name in ("SECRET_KEY", "ROW_KEY", "AUDIT_KEY"):
        if len(getattr(settings, name)) < 32:
            errors.append(Error(f"{name} must have at least 32 characters.", id="kmsportal.E004"))
    if len({settings.SECRET_KEY.encode(), settings.ROW_KEY, settings.AUDIT_KEY}) < 3:
        errors.append(Error("SECRET_KEY, ROW_KEY and AUDIT_KEY must differ.", id="kmsportal.E005"))
    if not settings.MFA_REQUIRED:
        errors.append(Error("The second factor can be optional in the demo only.", id="kmsportal.E006"))
    return errors


@register()
def production_sends_mail(**_: Any) -> list[Error]:
    """Printed or written to a file, a link that resets a password is there for whoever reads logs."""
    if not settings.PRODUCTION or settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        return []
    return [
        Error("Production needs a mail server (KMS_EMAIL_URL) for links that reset passwords.", id="kmsportal.E007")
    ]
