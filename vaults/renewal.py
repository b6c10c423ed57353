"""Each process keeps its own credentials renewed, and notes until when they last: for the metrics, and for whoever looks."""

import socket
from pathlib import Path

from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from operations.models import Operation
from operations.work import attempt, periodic
from vaults.hosted import renewal
from vaults.hosted.renewal import Look
from vaults.hosted.sessions import as_identity
from vaults.models import HeldCredentials


@periodic(renewal.EVERY, Operation.Queue.SHRED)
@periodic(renewal.EVERY, Operation.Queue.WATCH)
@periodic(renewal.EVERY, Operation.Queue.BULK)
@periodic(renewal.EVERY)
def keep_credentials() -> None:
    """Renew what this process holds where that is due, and note what was found."""
    if settings.CREDENTIALS:
        note(renewal.renew(Path(settings.CREDENTIALS), as_identity))


def note(look: Look) -> None:
    found = {"expires_at": look.expires, "trouble": look.trouble[:300], "looked_at": timezone.now()}
    HeldCredentials.objects.update_or_create(process=look.process, host=socket.gethostname()[:253], defaults=found)


def keep_in_web() -> None:
    """As keep_credentials(), in a thread of this process: a web server has no worker's clock."""
    renewal.keep_renewed(_attempted)


def _attempted() -> None:
    close_old_connections()
    attempt(keep_credentials)
    close_old_connections()
