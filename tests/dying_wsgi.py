"""The portal's own WSGI application, in a process that kills itself (SIGKILL) at a chosen step of a request.

Steps are counted where something leaves the process: before and after every vault call and every database statement,
commits included. The header `X-Die-At: n` names the step; `X-Steps` in the answer tells how many there were.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402

portal = get_wsgi_application()

from django.db import connection  # noqa: E402

from tests.stepping import call_at_steps  # noqa: E402

steps = threading.local()


def step() -> None:
    if getattr(steps, "die_at", None) is None:
        return
    steps.count += 1
    if steps.count == steps.die_at:
        os.kill(os.getpid(), signal.SIGKILL)


call_at_steps(step)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    wanted = environ.get("HTTP_X_DIE_AT")
    steps.die_at, steps.count = (int(wanted), 0) if wanted else (None, 0)

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, ("X-Steps", str(steps.count))], *rest)

    with ExitStack() as stack:
        if wanted:
            stack.enter_context(connection.execute_wrapper(_around_statement))
        return portal(environ, start)


def _around_statement(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    step()
    result = execute(sql, params, many, context)
    step()
    return result
