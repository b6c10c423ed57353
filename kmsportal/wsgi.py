"""What gunicorn serves. An error that not even the error page survived is answered here, and its text goes nowhere."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from django.core.wsgi import get_wsgi_application

from kmsportal.refusal import one_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")
with one_line(status=3):  # which gunicorn does not answer by trying again
    portal = get_wsgi_application()
    from kmsportal import start  # noqa: E402  (what it needs is there now)

    start.check("web")
    from vaults.renewal import keep_in_web  # noqa: E402

    keep_in_web()
log = structlog.get_logger()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    try:
        return portal(environ, start_response)
    except Exception:  # the server would print it with its text, which can hold what was typed
        log.exception("unanswerable", path=environ.get("PATH_INFO", ""))
        start_response("500 Internal Server Error", [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
        return [b"The portal failed to answer.\n"]
