"""A server's thread keeps its connection to the database from request to request."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import connection

from accounts.models import Account

pytestmark = pytest.mark.django_db(transaction=True)


def served() -> object:
    """The driver's own connection that a request had."""
    request_started.send(WSGIHandler, environ={})
    Account.objects.exists()
    used = connection.connection
    request_finished.send(WSGIHandler)
    return used


def test_the_next_request_has_the_same_connection() -> None:
    with ThreadPoolExecutor(1) as thread:
        first, second = thread.submit(served).result(), thread.submit(served).result()
        thread.submit(lambda: connection.close()).result()
    assert first is not None
    assert first is second
